//! What somebody may try with the page itself.

use serde_json::{Value, json};

use crate::common::http;
use crate::common::server::Server;
use crate::driver::{Browser, Driver, Look, test_id};

/// Changes what the page has kept of who is signed in.
async fn keep_login(browser: &Browser, field: &str, value: &str) {
    let change = "const login = JSON.parse(localStorage.getItem('im.login')); \
        login[arguments[0]] = arguments[1]; \
        localStorage.setItem('im.login', JSON.stringify(login))";
    browser.eval(change, vec![json!(field), json!(value)]).await;
}

async fn until_signed_out(browser: &Browser) {
    let asked = "return document.querySelector('.notice')?.innerText === 'Please sign in again.'";
    browser.until("the page asks to sign in again", asked, vec![]).await;
    let text = browser.eval("return document.body.innerText", vec![]).await;
    assert!(!text.as_str().expect("text").contains("between us"), "{text}");
}

/// P8: a name in the browser's storage makes nobody somebody else, nor does a token of another server.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn p8_what_the_browser_keeps_makes_nobody_somebody_else() {
    let server = Server::start(&[]);
    let other = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let said = json!({"to": "/user/alice", "body": "between us"});
    assert_eq!(server.api(&server.token("bob"), "POST", "/messages", Some(&said)).0, 201);
    let mallory = Browser::new(&driver, Look::DESKTOP).await;
    mallory.sign_in(&page, "mallory").await;
    keep_login(&mallory, "user", "alice").await;
    mallory.reload().await;
    until_signed_out(&mallory).await;

    mallory.sign_in(&page, "mallory").await;
    keep_login(&mallory, "user", "alice").await;
    keep_login(&mallory, "token", &other.token("alice")).await;
    mallory.reload().await;
    until_signed_out(&mallory).await;

    // With a token of hers alice is let in this way.
    mallory.sign_in(&page, "mallory").await;
    keep_login(&mallory, "user", "alice").await;
    keep_login(&mallory, "token", &server.token("alice")).await;
    mallory.reload().await;
    mallory.until_unread("direct:alice:bob", 1).await;
}

/// P8: the name of a file is text, whatever it says.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn p8_the_name_of_a_file_is_never_markup() {
    const NAME: &str = "<img src=x onerror=\"window.hit=1\">.txt";
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let token = server.token("alice");
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
    let path = "/api/v1/conversations/direct:alice:bob/attachments?name=\
        %3Cimg%20src=x%20onerror=%22window.hit=1%22%3E.txt";
    let kept = http::request(server.http, "POST", path, &headers, b"text");
    assert_eq!(kept.status, 201);
    let id: Value = kept.json()["id"].clone();
    let said = json!({"to": "/user/bob", "body": NAME, "attachment": id});
    assert_eq!(server.api(&token, "POST", "/messages", Some(&said)).0, 201);
    let bob = Browser::new(&driver, Look::PHONE).await;
    bob.sign_in(&page, "bob").await;
    bob.open_conversation("direct:alice:bob").await;
    let shown = "return document.querySelector('[data-testid=messages]').innerText\
        .includes(arguments[0])";
    bob.until("the name is shown as it is", shown, vec![json!(NAME)]).await;
    let intact = "return window.hit === undefined && \
        !document.querySelector('[data-testid=messages] img[src=x]')";
    assert_eq!(bob.eval(intact, vec![]).await, json!(true));
    bob.click(&test_id("back")).await;
    assert_eq!(bob.eval("return window.hit === undefined", vec![]).await, json!(true));
}
