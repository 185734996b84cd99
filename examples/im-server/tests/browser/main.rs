//! The web chat in real browsers, against the real server.

// Helpers of a test may fail it; its modules have nobody to be reachable for.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, unreachable_pub)]

mod admin;
mod attacks;
#[path = "../common/mod.rs"]
mod common;
mod driver;
mod from_nothing;

use std::collections::BTreeSet;
use std::time::Duration;

use common::server::Server;
use driver::{Browser, Driver, ENTER, Look, Network, Shown, test_id};
use serde_json::{Value, json};

const ANNA_BEN: &str = "direct:anna:ben";

fn texts(shown: &[Shown]) -> Vec<String> {
    shown.iter().map(|message| message.text.clone()).collect()
}

fn numbered(name: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| format!("{name} {number}")).collect()
}

async fn assert_no_errors(browsers: &[&Browser]) {
    for browser in browsers {
        let errors = browser.console_errors(Network::Fine);
        assert!(errors.is_empty(), "errors in the console: {errors:#?}");
    }
}

/// Two people sign up in two browsers and write to each other; a third is added to a group and all
/// three read it.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn people_sign_up_and_chat_in_pairs_and_in_a_group() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let anna = Browser::new(&driver, Look::DESKTOP).await;
    let ben = Browser::new(&driver, Look::DESKTOP.dark()).await;
    let cleo = Browser::new(&driver, Look::PHONE).await;

    anna.goto(&page).await;
    anna.until("the sign-in form", "return Boolean(document.activeElement.id)", vec![]).await;
    anna.shot("sign-in").await;
    anna.sign_up(&page, "anna").await;
    ben.sign_up(&page, "ben").await;

    anna.chat_with("ben").await;
    anna.say("Hello Ben").await;
    anna.until_state("Hello Ben", "delivered").await;
    ben.until_unread(ANNA_BEN, 1).await;
    ben.open_conversation(ANNA_BEN).await;
    ben.until_texts(&["Hello Ben".to_owned()]).await;
    anna.until_state("Hello Ben", "read").await;
    anna.until_text("chat-state", "online").await;

    ben.write(&test_id("composer"), "Hello An").await;
    anna.until_text("chat-state", "typing…").await;
    anna.shot("typing").await;
    ben.say("na").await;
    anna.until_texts(&["Hello Ben".to_owned(), "Hello Anna".to_owned()]).await;
    ben.until_state("Hello Anna", "read").await;

    cleo.sign_up(&page, "cleo").await;
    anna.click(&test_id("compose")).await;
    anna.click(&test_id("new-group")).await;
    anna.write(&test_id("group-name"), "lunch").await;
    anna.write(&test_id("people-search"), "ben").await;
    anna.click("[data-testid='pick'][data-person='ben']").await;
    anna.click(&test_id("people-done")).await;
    anna.until_text("chat-title", "lunch").await;
    anna.say("Who is hungry?").await;

    anna.click(&test_id("details-open")).await;
    anna.click(&test_id("add-member")).await;
    anna.write(&test_id("people-search"), "cleo").await;
    anna.click("[data-testid='pick'][data-person='cleo']").await;
    anna.click(&test_id("people-done")).await;
    anna.until(
        "three members, all online",
        "const m = [...document.querySelectorAll('[data-testid=member]')]; \
         return m.length === 3 && m.every(e => e.dataset.online === 'true')",
        vec![],
    )
    .await;
    anna.shot("group-details").await;

    cleo.open_conversation("group:lunch").await;
    cleo.until(
        "cleo is told that she was added",
        "return [...document.querySelectorAll('[data-testid=system]')]\
         .some(e => e.innerText === 'anna added you')",
        vec![],
    )
    .await;
    cleo.write(&test_id("composer"), "I am").await;
    cleo.click(&test_id("send")).await;
    ben.open_conversation("group:lunch").await;
    ben.say("Me too").await;
    let all = ["Who is hungry?", "I am", "Me too"].map(str::to_owned);
    for browser in [&anna, &ben, &cleo] {
        browser.until_texts(&all).await;
    }
    ben.until_state("Me too", "read").await;
    anna.shot("group").await;
    ben.shot("group-dark").await;
    cleo.shot("group-phone").await;
    cleo.click(&test_id("back")).await;
    cleo.shot("list-phone").await;
    assert_no_errors(&[&anna, &ben, &cleo]).await;
}

/// P2, P3: what came while a browser was closed is there when it comes back: in order, once, marked
/// as new. The others see who is there and who is not.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn who_comes_back_finds_what_was_missed() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let anna = Browser::new(&driver, Look::DESKTOP).await;
    let mut ben = Browser::new(&driver, Look::DESKTOP).await;
    anna.sign_up(&page, "anna").await;
    ben.sign_up(&page, "ben").await;
    let anna_token = token(&server, "anna");
    let body = json!({"name": "team", "members": ["ben"]});
    assert_eq!(server.api(&anna_token, "POST", "/groups", Some(&body)).0, 201);

    anna.chat_with("ben").await;
    anna.say("before 1").await;
    anna.say("before 2").await;
    ben.open_conversation(ANNA_BEN).await;
    anna.until_state("before 2", "read").await;
    anna.until_text("chat-state", "online").await;

    ben.close().await;
    let away = "return document.querySelector('[data-testid=chat-state]')\
         .innerText.startsWith('last seen')";
    anna.until("ben is shown as away", away, vec![]).await;
    let missed = numbered("missed", 1..=12);
    for text in &missed {
        anna.say(text).await;
    }
    anna.until_state("missed 12", "sent").await;
    anna.open_conversation("group:team").await;
    anna.say("for the team").await;
    anna.until_state("for the team", "sent").await;
    anna.open_conversation(ANNA_BEN).await;
    anna.shot("away").await;

    ben.open().await;
    ben.goto(&page).await;
    ben.until_online().await;
    ben.until_unread(ANNA_BEN, 12).await;
    ben.until_unread("group:team", 1).await;
    ben.until("the title counts", "return document.title.startsWith('(13)')", vec![]).await;
    anna.until_text("chat-state", "online").await;
    anna.until_state("missed 12", "delivered").await;
    ben.shot("missed-list").await;

    ben.open_conversation(ANNA_BEN).await;
    let expected: Vec<String> =
        ["before 1", "before 2"].map(str::to_owned).into_iter().chain(missed).collect();
    ben.until_texts(&expected).await;
    let next = ben
        .until(
            "the line before what is new",
            "return document.querySelector('[data-testid=divider]')?.nextElementSibling\
             .querySelector('[data-testid=text]').textContent",
            vec![],
        )
        .await;
    assert_eq!(next, "missed 1");
    ben.shot("missed").await;
    anna.until_state("missed 12", "read").await;
    ben.until_unread(ANNA_BEN, 0).await;

    // Again: a reload brings the same, and nothing is new any more.
    ben.reload().await;
    ben.until_online().await;
    ben.until_texts(&expected).await;
    ben.until_unread(ANNA_BEN, 0).await;
    ben.until_unread("group:team", 1).await;
    assert_no_errors(&[&anna, &ben]).await;
}

/// P1, P2, P3, P4: the server is killed while messages flow. The pages come back by themselves; what
/// was shown as sent is missing nowhere, and everything is there once, in the same order for all.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn pages_survive_a_killed_server_without_losing_what_was_sent() {
    let mut server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let anna = Browser::new(&driver, Look::DESKTOP).await;
    let ben = Browser::new(&driver, Look::DESKTOP).await;
    anna.sign_up(&page, "anna").await;
    ben.sign_up(&page, "ben").await;
    anna.chat_with("ben").await;
    anna.say("anna 0").await;
    ben.open_conversation(ANNA_BEN).await;
    ben.say("ben 0").await;
    anna.until_texts(&["anna 0".to_owned(), "ben 0".to_owned()]).await;

    let mut sent_before_a_kill = BTreeSet::new();
    let mut number = 0;
    for round in 1..=3 {
        for step in 0..9 {
            number += 1;
            anna.say(&format!("anna {number}")).await;
            ben.say(&format!("ben {number}")).await;
            if step == 3 {
                // What the page shows as sent is promised.
                for browser in [&anna, &ben] {
                    let shown = browser.shown().await;
                    let sent = shown.iter().filter(|one| !one.state.is_empty());
                    let sent = sent.filter(|one| !["sending", "failed"].contains(&&*one.state));
                    sent_before_a_kill.extend(sent.map(|one| one.text.clone()));
                }
                server.kill();
            }
            if step == 5 {
                anna.until(
                    "the page says that the connection is lost",
                    "return !document.querySelector('[data-testid=banner]').hidden",
                    vec![],
                )
                .await;
                if round == 1 {
                    anna.shot("connection-lost").await;
                }
                server.start_again();
            }
        }
    }
    assert!(sent_before_a_kill.len() > 10, "{sent_before_a_kill:?}");

    let all = 2 * (number as usize + 1);
    for browser in [&anna, &ben] {
        browser.until_online().await;
        browser
            .until(
                "every message is there and sent",
                "const m = [...document.querySelectorAll('[data-testid=message]')]; \
                 return m.length === arguments[0] && \
                 m.every(e => !['sending', 'failed'].includes(e.dataset.state))",
                vec![json!(all)],
            )
            .await;
    }
    let anna_sees = anna.shown().await;
    let ben_sees = ben.shown().await;
    assert_eq!(texts(&anna_sees), texts(&ben_sees));
    let sequence: Vec<u64> = anna_sees.iter().map(|message| message.seq).collect();
    assert_eq!(sequence, (1..=all as u64).collect::<Vec<_>>());
    let once: BTreeSet<String> = texts(&anna_sees).into_iter().collect();
    assert_eq!(once.len(), all);
    assert!(sent_before_a_kill.is_subset(&once));
    for name in ["anna", "ben"] {
        let own = anna_sees.iter().filter(|message| message.from == name);
        let own: Vec<String> = own.map(|message| message.text.clone()).collect();
        assert_eq!(own, numbered(name, 0..=number), "the order in which {name} wrote");
    }

    // A device that has seen nothing of all this gets the same from the store.
    let fresh = Browser::new(&driver, Look::DESKTOP).await;
    fresh.sign_in(&page, "ben").await;
    fresh.open_conversation(ANNA_BEN).await;
    fresh.eval("document.querySelector('.log').scrollTop = 0", vec![]).await;
    fresh.until_texts(&texts(&anna_sees)).await;
    for browser in [&anna, &ben, &fresh] {
        let errors = browser.console_errors(Network::Broken);
        assert!(errors.is_empty(), "errors in the console: {errors:#?}");
    }
}

/// P4: what was written without a server outlives the browser, and is sent once, later.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn unsent_messages_outlive_the_browser() {
    let mut server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let mut anna = Browser::new(&driver, Look::DESKTOP).await;
    anna.sign_up(&page, "anna").await;
    anna.chat_with("bob").await;
    anna.say("online").await;
    anna.until_state("online", "sent").await;
    server.kill();
    anna.until_text("self-state", "offline").await;
    anna.say("offline 1").await;
    anna.say("offline 2").await;
    anna.until_state("offline 2", "sending").await;
    anna.close().await;

    server.start_again();
    anna.open().await;
    anna.goto(&page).await;
    anna.until_online().await;
    anna.open_conversation("direct:anna:bob").await;
    anna.until_texts(&["online", "offline 1", "offline 2"].map(str::to_owned)).await;
    anna.until_state("offline 2", "sent").await;
    let (_, history) =
        server.api(&token(&server, "anna"), "GET", "/conversations/direct:anna:bob/messages", None);
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(3), "{history}");
}

/// The text of a message is text, whatever it looks like; only web addresses become links.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn message_text_is_never_markup() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let bob = Browser::new(&driver, Look::DESKTOP).await;
    bob.sign_in(&page, "bob").await;
    let hostile = [
        "<script>window.hit = 1</script>",
        "<img src=x onerror=\"window.hit = 2\">",
        "<b>bold</b> &amp; <a href=\"javascript:window.hit=3\">x</a>",
        "javascript:window.hit=4 https://example.org/\"onmouseover=\"window.hit=5",
        "two\nlines\tand \u{202e}more",
        "\u{0}\u{1}: \\n \\c",
    ];
    let alice = server.token("alice");
    for text in hostile {
        let body = json!({"to": "/user/bob", "body": text});
        assert_eq!(server.api(&alice, "POST", "/messages", Some(&body)).0, 201);
    }
    bob.until_unread("direct:alice:bob", hostile.len() as u64).await;
    bob.open_conversation("direct:alice:bob").await;
    bob.until_texts(&hostile.map(str::to_owned)).await;
    let intact = "const log = document.querySelector('[data-testid=messages]'); \
         return window.hit === undefined && !log.querySelector('script, img, b') && \
         [...log.querySelectorAll('a')].every(a => a.href.startsWith('https://example.org/'))";
    assert_eq!(bob.eval(intact, vec![]).await, json!(true));
    bob.shot("hostile-text").await;
    assert_no_errors(&[&bob]).await;
}

/// A second tab takes the device over; the first says so and can take it back.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn one_tab_at_a_time_and_it_can_be_taken_back() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let bob = Browser::new(&driver, Look::DESKTOP).await;
    bob.sign_in(&page, "bob").await;
    // The newest inbox has the device: the first tab's must be there before the second one's. What
    // it has received tells so.
    let alice = server.token("alice");
    let body = json!({"to": "/user/bob", "body": "are you there?"});
    assert_eq!(server.api(&alice, "POST", "/messages", Some(&body)).0, 201);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while !has_received(&server.api(&alice, "GET", "/conversations", None).1, "bob", 1) {
        assert!(std::time::Instant::now() < deadline, "the first tab receives nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = "return Boolean(window.open('/', '_blank'))";
    bob.until("a second tab opens", open, vec![]).await;
    let covered = "return !document.querySelector('[data-testid=taken-over]').hidden";
    bob.until("the first tab says that another has it", covered, vec![]).await;
    bob.shot("taken-over").await;
    bob.click(&test_id("use-here")).await;
    bob.until_online().await;
    let free = "return document.querySelector('[data-testid=taken-over]').hidden";
    bob.until("the first tab has it back", free, vec![]).await;
    let body = json!({"to": "/user/bob", "body": "still here?"});
    assert_eq!(server.api(&alice, "POST", "/messages", Some(&body)).0, 201);
    bob.until_unread("direct:alice:bob", 2).await;
}

/// Whether a list of conversations says that `user` was delivered message `seq` of the first one.
fn has_received(conversations: &Value, user: &str, seq: u64) -> bool {
    conversations["conversations"][0]["members"].as_array().is_some_and(|members| {
        members
            .iter()
            .any(|member| member["user"] == user && member["delivered"].as_u64() >= Some(seq))
    })
}

/// Older messages come when one scrolls up, each once and in order, and the view stays in its place.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn older_messages_come_when_one_scrolls_up() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let alice = server.token("alice");
    let all = numbered("note", 1..=120);
    for text in &all {
        let body = json!({"to": "/user/bob", "body": text});
        assert_eq!(server.api(&alice, "POST", "/messages", Some(&body)).0, 201);
    }
    let bob = Browser::new(&driver, Look::PHONE.dark()).await;
    bob.sign_in(&page, "bob").await;
    bob.open_conversation("direct:alice:bob").await;
    bob.until("the first page", "return document.querySelector('[data-testid=text]')", vec![])
        .await;
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while bob.shown().await.len() < all.len() {
        assert!(std::time::Instant::now() < deadline, "the older messages do not come");
        bob.eval("document.querySelector('.log').scrollTop = 0", vec![]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bob.until_texts(&all).await;
    bob.shot("history-phone-dark").await;
    assert_no_errors(&[&bob]).await;
}

/// Who picks what was found far back is brought to it.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn a_found_message_is_shown_where_it_was_said() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let alice = server.token("alice");
    let mut texts = numbered("hay", 1..=320);
    texts[9] = "needle".to_owned();
    for text in &texts {
        let body = json!({"to": "/user/bob", "body": text});
        assert_eq!(server.api(&alice, "POST", "/messages", Some(&body)).0, 201);
    }
    let bob = Browser::new(&driver, Look::DESKTOP).await;
    bob.sign_in(&page, "bob").await;
    bob.write(&test_id("search"), "need").await;
    bob.click(&test_id("found")).await;
    let in_sight = "const log = document.querySelector('.log').getBoundingClientRect(); \
        const row = document.querySelector('[data-seq=\"10\"]')?.getBoundingClientRect(); \
        return Boolean(row) && row.top >= log.top && row.bottom <= log.bottom";
    bob.until("the message is in sight", in_sight, vec![]).await;
    bob.shot("found").await;
    assert_no_errors(&[&bob]).await;
}

/// What administrators tell everybody is on the page; so is that of a message no text was kept.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn announcements_and_messages_without_their_text_are_shown() {
    let server = Server::start(&["--admin", "carol", "--store-only", "metadata direct:*"]);
    let page = server.page_url();
    let driver = Driver::start();
    let (alice, boss) = (server.token("alice"), server.token("carol"));
    let bob = Browser::new(&driver, Look::DESKTOP).await;
    bob.sign_in(&page, "bob").await;
    bob.until_online().await;
    let tell = |token: &str, to: &str, body: &str| {
        let body = json!({"to": to, "body": body});
        assert_eq!(server.api(token, "POST", "/messages", Some(&body)).0, 201);
    };
    tell(&boss, "/broadcast/all", "Tea at four");
    bob.until_unread("broadcast:all", 1).await;
    bob.click("[data-conversation='broadcast:all']").await;
    bob.until_text("chat-title", "Announcements").await;
    bob.until_texts(&["Tea at four".to_owned()]).await;
    bob.until_unread("broadcast:all", 0).await;
    bob.shot("announcement").await;
    tell(&boss, "/broadcast/all", "and cake");
    bob.until_texts(&["Tea at four", "and cake"].map(str::to_owned)).await;

    tell(&alice, "/user/bob", "between us");
    bob.open_conversation("direct:alice:bob").await;
    bob.until_texts(&["between us".to_owned()]).await;
    bob.reload().await;
    bob.until_texts(&["The text of this message was not kept.".to_owned()]).await;
    bob.shot("metadata").await;
    assert_no_errors(&[&bob]).await;
}

/// Two devices of one person: what is written on one is on the other, what is read on one is read.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn devices_of_one_person_agree() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let desk = Browser::new(&driver, Look::DESKTOP).await;
    let phone = Browser::new(&driver, Look::PHONE).await;
    desk.sign_in(&page, "bob").await;
    phone.sign_in(&page, "bob").await;
    let body = json!({"to": "/user/bob", "body": "on both"});
    assert_eq!(server.api(&server.token("alice"), "POST", "/messages", Some(&body)).0, 201);
    desk.until_unread("direct:alice:bob", 1).await;
    phone.until_unread("direct:alice:bob", 1).await;

    desk.open_conversation("direct:alice:bob").await;
    desk.say("from the desk").await;
    phone.until_unread("direct:alice:bob", 0).await;
    phone.open_conversation("direct:alice:bob").await;
    phone.write(&test_id("composer"), "from the phone").await;
    phone.click(&test_id("send")).await;
    let all = ["on both", "from the desk", "from the phone"].map(str::to_owned);
    for device in [&desk, &phone] {
        device.until_texts(&all).await;
        device.until_state("from the desk", "sent").await;
        device.until_state("from the phone", "sent").await;
    }
    assert_no_errors(&[&desk, &phone]).await;
}

/// A tab in the background keeps receiving, counts in its title, and does not claim that it was read.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn a_hidden_tab_receives_but_has_not_read() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let alice = Browser::new(&driver, Look::DESKTOP).await;
    let bob = Browser::new(&driver, Look::DESKTOP).await;
    alice.sign_in(&page, "alice").await;
    bob.sign_in(&page, "bob").await;
    alice.chat_with("bob").await;
    alice.say("seen").await;
    bob.open_conversation("direct:alice:bob").await;
    alice.until_state("seen", "read").await;

    bob.set_visible(false).await;
    alice.say("not seen yet").await;
    alice.until_state("not seen yet", "delivered").await;
    bob.until("the title counts", "return document.title.startsWith('(1)')", vec![]).await;
    let states: Vec<String> = alice.shown().await.into_iter().map(|one| one.state).collect();
    assert_eq!(states, ["read", "delivered"]);

    bob.set_visible(true).await;
    alice.until_state("not seen yet", "read").await;
    let marked = "return document.querySelector('[data-testid=divider]')?.nextElementSibling\
         .querySelector('[data-testid=text]').textContent";
    assert_eq!(bob.until("it is marked as new", marked, vec![]).await, "not seen yet");

    // Hidden for a while is away, until it is looked at again.
    alice.until_text("chat-state", "online").await;
    bob.set_visible(false).await;
    let later = "const now = Date.now; Date.now = () => now.call(Date) + 3600000";
    bob.eval(later, vec![]).await;
    alice.until_text("chat-state", "away").await;
    alice.shot("other-is-away").await;
    bob.set_visible(true).await;
    alice.until_text("chat-state", "online").await;
    assert_no_errors(&[&alice, &bob]).await;
}

/// P8: whoever is removed from a group is told, and cannot write there any more; who leaves is gone.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn members_are_removed_and_leave() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    server.create_group("alice", "team", &["bob", "carol"]);
    let alice = Browser::new(&driver, Look::DESKTOP).await;
    let bob = Browser::new(&driver, Look::DESKTOP.dark()).await;
    let carol = Browser::new(&driver, Look::PHONE).await;
    for (browser, name) in [(&alice, "alice"), (&bob, "bob"), (&carol, "carol")] {
        browser.sign_in(&page, name).await;
        browser.open_conversation("group:team").await;
    }
    let told = |text: &str| {
        let script = "return [...document.querySelectorAll('[data-testid=system]')]\
             .some(e => e.innerText === arguments[0])";
        (text.to_owned(), script, vec![json!(text)])
    };

    alice.click(&test_id("details-open")).await;
    let remove = "[data-user='bob'] [data-focus='remove']";
    alice.click(remove).await;
    alice.shot("remove-member").await;
    alice.click(&format!("{remove}.danger")).await;
    for (browser, text) in
        [(&alice, "You removed bob"), (&bob, "alice removed you"), (&carol, "alice removed bob")]
    {
        let (what, script, arguments) = told(text);
        browser.until(&what, script, arguments).await;
    }
    let closed = "return Boolean(document.querySelector('.composer-closed').offsetParent) && \
         !document.querySelector('[data-testid=composer]').offsetParent";
    bob.until("the composer is closed", closed, vec![]).await;
    bob.shot("removed-dark").await;

    carol.click(&test_id("details-open")).await;
    carol.click(&test_id("leave")).await;
    carol.click(&test_id("leave")).await;
    carol.until("the composer is closed", closed, vec![]).await;
    let (what, script, arguments) = told("carol left the group");
    alice.until(&what, script, arguments).await;
    alice.say("Alone at last").await;
    alice.until_state("Alone at last", "sent").await;
    for left in [&bob, &carol] {
        left.until_online().await;
        assert!(!texts(&left.shown().await).contains(&"Alone at last".to_owned()));
    }
    assert_no_errors(&[&alice, &bob, &carol]).await;
}

/// Everything can be done without a mouse; who signs out leaves nothing for the next one.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn the_keyboard_is_enough_and_signing_out_is_complete() {
    const CONTROL: &str = "\u{E009}";
    const ESCAPE: &str = "\u{E00C}";
    const NULL: &str = "\u{E000}";
    const TAB: &str = "\u{E004}";
    let server = Server::start(&[]);
    let driver = Driver::start();
    let bob = Browser::new(&driver, Look::DESKTOP).await;
    bob.goto(&server.page_url()).await;
    bob.until("focus", "return document.activeElement.id === 'auth-name'", vec![]).await;
    bob.keys(&format!("bob{TAB}bob-secret{ENTER}")).await;
    bob.until_online().await;
    bob.keys(&format!("{CONTROL}k{NULL}alice")).await;
    bob.until("alice is found", "return document.querySelector('[data-person=alice]')", vec![])
        .await;
    bob.keys(ENTER).await;
    bob.until("focus", "return document.activeElement.id === 'composer'", vec![]).await;
    bob.keys(&format!("typed only{ENTER}")).await;
    bob.until_state("typed only", "sent").await;
    bob.keys(ESCAPE).await;
    let on_item = "return document.activeElement.dataset.conversation === 'direct:alice:bob'";
    bob.until("focus is in the list", on_item, vec![]).await;

    bob.click(&test_id("sign-out")).await;
    bob.sign_in(&server.page_url(), "alice").await;
    bob.until_text("self-name", "alice").await;
    bob.until_unread("direct:alice:bob", 1).await;
    assert_no_errors(&[&bob]).await;
}

/// The mistakes that a person makes when signing in are told in words.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn signing_in_says_what_is_wrong() {
    let server = Server::start(&[]);
    let driver = Driver::start();
    let eve = Browser::new(&driver, Look::PHONE).await;
    eve.goto(&server.page_url()).await;
    eve.write(&test_id("auth-name"), "bob").await;
    eve.write(&test_id("auth-password"), "wrong").await;
    eve.click(&test_id("auth-submit")).await;
    eve.until_text("auth-error", "Name or password is wrong.").await;
    eve.click(&test_id("auth-sign-up")).await;
    eve.click(&test_id("auth-submit")).await;
    eve.until_text("auth-error", "This name is taken. Choose another one, or sign in.").await;
    eve.write(&test_id("auth-name"), " b").await;
    eve.click(&test_id("auth-submit")).await;
    let hint = "Use up to 64 letters and digits, and . _ - @ + (no spaces).";
    eve.until_text("auth-error", hint).await;
    eve.shot("sign-in-error").await;
}

/// Messages are answered, edited, reacted to and taken back, on a desktop and on a phone.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn messages_are_answered_edited_reacted_to_and_recalled() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let anna = Browser::new(&driver, Look::DESKTOP).await;
    let ben = Browser::new(&driver, Look::PHONE).await;
    anna.sign_up(&page, "anna").await;
    ben.sign_up(&page, "ben").await;
    anna.chat_with("ben").await;
    anna.say("Lunch at twelfe?").await;
    ben.open_conversation(ANNA_BEN).await;
    ben.until_texts(&["Lunch at twelfe?".to_owned()]).await;

    anna.open_menu("Lunch at twelfe?").await;
    anna.click(&test_id("edit")).await;
    anna.shot("edit").await;
    anna.rewrite(&test_id("composer"), "Lunch at twelve?").await;
    anna.click(&test_id("send")).await;
    let lunch = "Lunch at twelve?";
    for browser in [&anna, &ben] {
        browser.until_texts(&[lunch.to_owned()]).await;
        browser.until_text("edited", "edited").await;
    }

    ben.open_menu(lunch).await;
    ben.shot("menu-phone").await;
    ben.click("[data-testid='react'][data-reaction='👍']").await;
    for browser in [&anna, &ben] {
        browser.until_text("reaction", "👍").await;
    }
    anna.click(&test_id("reaction")).await;
    ben.until_text("reaction", "👍 2").await;

    ben.open_menu(lunch).await;
    ben.click(&test_id("reply")).await;
    ben.write(&test_id("composer"), "Yes, and a secret").await;
    ben.click(&test_id("send")).await;
    anna.until_text("quote", "anna: Lunch at twelve?").await;
    anna.shot("replies").await;
    ben.shot("replies-phone").await;

    // A picture goes along, and is seen on both sides.
    let attach = "const octets = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)); \
        const files = new DataTransfer(); \
        files.items.add(new File([octets], 'dot.png', { type: 'image/png' })); \
        const input = document.querySelector('[data-testid=file]'); \
        input.files = files.files; input.dispatchEvent(new Event('change'))";
    let dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    ben.eval(attach, vec![json!(dot)]).await;
    for browser in [&anna, &ben] {
        let seen = "return document.querySelector('[data-testid=picture]')?.naturalWidth === 1";
        browser.until("the picture", seen, vec![]).await;
    }
    anna.shot("picture").await;

    // A reload shows the same, from the history.
    anna.reload().await;
    let all = [lunch, "Yes, and a secret", "dot.png"].map(str::to_owned);
    anna.until_texts(&all).await;
    anna.until_text("reaction", "👍 2").await;
    anna.until_text("edited", "edited").await;

    // The search finds words that have only begun, and leads to where they were said.
    anna.write(&test_id("search"), "twelv").await;
    anna.until(
        "the message is found",
        "return document.querySelector('[data-testid=found]')?.innerText.includes('twelve?')",
        vec![],
    )
    .await;
    anna.shot("search").await;
    anna.click(&test_id("found")).await;

    ben.open_menu("Yes, and a secret").await;
    ben.click(&test_id("recall")).await;
    let recalled = [lunch, "This message was recalled.", "dot.png"].map(str::to_owned);
    for browser in [&anna, &ben] {
        browser.until_texts(&recalled).await;
    }
    anna.reload().await;
    anna.until_texts(&recalled).await;
    ben.shot("recalled-phone").await;
    assert_no_errors(&[&anna, &ben]).await;
}

/// A group has a title and roles; a person sees the own devices, and blocks another.
#[tokio::test]
#[ignore = "needs chromium and chromedriver"]
async fn groups_devices_and_blocks_are_managed() {
    let server = Server::start(&[]);
    let page = server.page_url();
    let driver = Driver::start();
    let anna = Browser::new(&driver, Look::DESKTOP).await;
    let ben = Browser::new(&driver, Look::PHONE).await;
    anna.sign_up(&page, "anna").await;
    ben.sign_up(&page, "ben").await;
    let token = token(&server, "anna");
    let group = json!({"name": "crew", "members": ["ben"]});
    assert_eq!(server.api(&token, "POST", "/groups", Some(&group)).0, 201);

    anna.open_conversation("group:crew").await;
    anna.click(&test_id("details-open")).await;
    anna.click(&test_id("group-settings")).await;
    anna.rewrite(&test_id("group-title"), "The Crew").await;
    anna.click(&test_id("group-open")).await;
    anna.shot("group-settings").await;
    anna.click(&test_id("group-save")).await;
    anna.until_text("chat-title", "The Crew").await;
    anna.click("[data-testid='member'][data-user='ben'] [data-testid='manage-member']").await;
    anna.click(&test_id("make-admin")).await;
    anna.until(
        "ben is an admin",
        "return document.querySelector('[data-user=ben] [data-testid=role]')?.innerText === 'admin'",
        vec![],
    )
    .await;
    ben.open_conversation("group:crew").await;
    ben.until_text("chat-title", "The Crew").await;

    anna.click(&test_id("settings-open")).await;
    anna.until(
        "the own device",
        "return document.querySelectorAll('[data-testid=device]').length > 0",
        vec![],
    )
    .await;
    anna.shot("settings").await;
    anna.click("[data-testid='settings'] [aria-label='Close']").await;

    ben.click(&test_id("back")).await;
    ben.chat_with("anna").await;
    ben.click(&test_id("details-open")).await;
    ben.click(&test_id("block")).await;
    ben.shot("block-phone").await;
    ben.goto(&page).await;
    ben.click(&test_id("settings-open")).await;
    ben.click("[data-testid='blocked-person'][data-user='anna'] [data-testid='unblock']").await;
    ben.shot("settings-phone").await;
    assert_no_errors(&[&anna, &ben]).await;
}

fn token(server: &Server, name: &str) -> String {
    let body = json!({"name": name, "password": format!("{name}-secret")});
    let (status, answer) = server.api("", "POST", "/tokens", Some(&body));
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().expect("a token").to_owned()
}
