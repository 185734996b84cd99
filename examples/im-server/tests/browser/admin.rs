//! The page of those who run a node.

use serde_json::{Value, json};

use crate::assert_no_errors;
use crate::common::PATIENCE;
use crate::common::server::Server;
use crate::common::wire::Wire;
use crate::driver::{Browser, Driver, Look, test_id};

const NO_SCOPE: &str = "This needs a key with the scope operate.";

/// More than a client may leave unacknowledged.
const MANY: usize = 300;

fn server() -> Server {
    Server::start(&["--open", "--admin", "carol"])
}

fn key(server: &Server, scopes: &[&str]) -> String {
    let body = json!({"service": "ops", "scopes": scopes});
    let (status, made) = server.api(&server.token("carol"), "POST", "/keys", Some(&body));
    assert_eq!(status, 201, "{made}");
    made["key"].as_str().expect("a key").to_owned()
}

async fn enter(browser: &Browser, key: &str) {
    browser.write(&test_id("key"), key).await;
    browser.click(&test_id("key-submit")).await;
}

async fn until_gone(browser: &Browser, css: &str) {
    let gone = "return !document.querySelector(arguments[0])";
    browser.until(&format!("{css} is gone"), gone, vec![json!(css)]).await;
}

/// Nothing is wider than the screen.
async fn assert_fits(browser: &Browser) {
    let wide = "const limit = document.documentElement.clientWidth; \
        return [...document.querySelectorAll('.admin *')].filter(e => \
        e.getBoundingClientRect().right > limit + 1).map(e => e.outerHTML.slice(0, 80))";
    assert_eq!(browser.eval(wide, vec![]).await, json!([]));
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn who_runs_a_node_sees_who_is_connected_and_ends_sessions() {
    let server = server();
    let page = format!("{}admin", server.page_url());
    let driver = Driver::start();
    let mut bob = Wire::sign_in(&server, "bob", "phone");
    bob.subscribe("t", "/topic/prices", &[("ack", "client-individual")]);
    bob.subscribe("q", "/queue/orders", &[("ack", "client-individual")]);
    let mut alice = Wire::sign_in(&server, "alice", "desk");
    alice.send("/queue/orders", "one", &[]);
    for _ in 0..MANY {
        alice.send("/topic/prices", "1", &[]);
    }

    let key = key(&server, &["operate"]);
    let desk = Browser::new(&driver, Look::DESKTOP).await;
    let phone = Browser::new(&driver, Look::PHONE.dark()).await;
    for browser in [&desk, &phone] {
        browser.goto(&page).await;
        enter(browser, &key).await;
        let slow = "return document.querySelector('[data-testid=session][data-user=bob]')\
            ?.dataset.slow === 'true'";
        browser.until("bob is slow", slow, vec![]).await;
        let taken = "return document.querySelector('[data-testid=destination]\
            [data-name=\"/topic/prices\"]')?.dataset.taken === '300'";
        browser.until("what the topic carried", taken, vec![]).await;
        assert_fits(browser).await;
        let address = browser.eval("return location.href", vec![]).await;
        assert!(!address.as_str().expect("an address").contains(&key), "{address}");
    }
    desk.shot("admin").await;
    phone.shot("admin-phone-dark").await;

    // Rates come with the second look.
    let mut sent = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    let rate = "return parseFloat(document.querySelector('[data-name=\"/topic/prices\"] \
        [data-label=\"In per second\"]').innerText) > 0";
    while desk.eval(rate, vec![]).await != json!(true) {
        assert!(std::time::Instant::now() < deadline, "no rate is shown");
        alice.send("/topic/prices", "2", &[]);
        sent += 1;
    }
    assert!(sent > 0, "a rate without messages");

    // A reload of the tab asks for nothing.
    desk.reload().await;
    desk.click(&test_id("slow")).await;
    until_gone(&desk, "[data-testid='session'][data-user='alice']").await;
    desk.click("[data-testid='session'][data-user='bob'] [data-testid='end']").await;
    desk.shot("admin-end").await;
    desk.click(&test_id("end-one")).await;
    assert_eq!(bob.error_and_close().header("message"), "ended by an administrator");
    desk.until_text("sessions-empty", "Nobody here is slow.").await;
    desk.until_text("status", "bob (phone) was disconnected.").await;
    assert_eq!(desk.eval("return localStorage.length", vec![]).await, json!(0));

    phone.click(&test_id("drain")).await;
    phone.shot("admin-drain-phone").await;
    phone.click(&test_id("drain-now")).await;
    assert!(alice.closed().is_none(), "it is no error to be drained");
    phone.until_text("sessions-empty", "Nobody is connected.").await;
    phone.click(&test_id("sign-out")).await;
    phone.reload().await;
    phone.until("the key is asked for", "return document.querySelector('#key')", vec![]).await;
    assert_eq!(phone.eval("return sessionStorage.length", vec![]).await, json!(0));
    assert_no_errors(&[&desk, &phone]).await;
}

/// P8: without the scope there is nothing to see, nor with a key that was revoked.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn p8_the_page_of_the_node_shows_nothing_without_the_scope() {
    let server = server();
    let page = format!("{}admin", server.page_url());
    let driver = Driver::start();
    let _bob = Wire::sign_in(&server, "bob", "phone");
    let mallory = Browser::new(&driver, Look::DESKTOP).await;
    mallory.goto(&page).await;
    let every = ["read", "send", "users", "webhooks", "as"];
    for (shown, said) in [
        (key(&server, &every), NO_SCOPE),
        (server.token("mallory"), NO_SCOPE),
        ("imk_none".to_owned(), "This is not a valid key."),
    ] {
        mallory.rewrite(&test_id("key"), &shown).await;
        mallory.click(&test_id("key-submit")).await;
        mallory.until_text("key-error", said).await;
        let text = mallory.eval("return document.body.innerHTML", vec![]).await;
        assert!(!text.as_str().expect("a page").contains("bob"), "{said}");
        assert_eq!(mallory.eval("return sessionStorage.length", vec![]).await, json!(0), "{said}");
    }
    // Nor does a key that somebody puts into the storage.
    let keep = "sessionStorage.setItem('im.operate', arguments[0])";
    mallory.eval(keep, vec![json!(key(&server, &every))]).await;
    mallory.reload().await;
    let refused = "return document.querySelector('#key') && \
        document.querySelector('.notice')?.innerText === arguments[0]";
    mallory.until("the key is asked for", refused, vec![json!(NO_SCOPE)]).await;
    mallory.shot("admin-refused").await;

    let operate = key(&server, &["operate"]);
    enter(&mallory, &operate).await;
    let bob = "return document.querySelector('[data-testid=session][data-user=bob]')";
    mallory.until("bob is seen", bob, vec![]).await;
    let carol = server.token("carol");
    let (_, keys) = server.api(&carol, "GET", "/keys", None);
    for key in keys["keys"].as_array().expect("keys") {
        let scopes = key["scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
        if scopes.contains(&Value::from("operate")) {
            let path = format!("/keys/{}", key["id"].as_str().expect("an id"));
            assert_eq!(server.api(&carol, "DELETE", &path, None).0, 204);
        }
    }
    mallory.until("the key is asked for", "return document.querySelector('#key')", vec![]).await;
    let text = mallory.eval("return document.body.innerHTML", vec![]).await;
    assert!(!text.as_str().expect("a page").contains("bob"));
}
