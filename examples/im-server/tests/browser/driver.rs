//! Headless Chromium, driven through chromedriver, and the page's parts by the names that it gives
//! them for tests.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use super::common::PATIENCE;

/// The Enter key.
pub const ENTER: &str = "\u{E007}";

/// A chromedriver of its own.
pub struct Driver {
    child: Child,
    address: SocketAddr,
}

impl Driver {
    pub fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver (Debian: chromium-driver) starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says its port");
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a browser looks like.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub touch: bool,
    pub dark: bool,
}

impl Look {
    pub const DESKTOP: Self = Self { width: 1280, height: 800, touch: false, dark: false };
    pub const PHONE: Self = Self { width: 390, height: 844, touch: true, dark: false };

    pub const fn dark(self) -> Self {
        Self { dark: true, ..self }
    }
}

/// One message as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// 0 where the server has not given it one yet.
    pub seq: u64,
    pub from: String,
    pub text: String,
    /// Empty for the messages of others.
    pub state: String,
}

/// One person's browser: a profile that stays when the browser is closed.
pub struct Browser {
    client: Option<Client>,
    driver: SocketAddr,
    session: String,
    profile: tempfile::TempDir,
    look: Look,
}

impl Browser {
    /// Opens a browser with an empty profile.
    pub async fn new(driver: &Driver, look: Look) -> Self {
        let mut browser = Self {
            client: None,
            driver: driver.address,
            session: String::new(),
            profile: tempfile::tempdir().expect("temporary folder"),
            look,
        };
        browser.open().await;
        browser
    }

    /// Opens the browser with its old profile.
    pub async fn open(&mut self) {
        let Look { width, height, touch, dark } = self.look;
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--lang=en-US".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", self.profile.path().display()),
        ];
        let mut capabilities = Capabilities::new();
        capabilities.insert("browserName".to_owned(), json!("chrome"));
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"}));
        let options = match Path::new("/usr/bin/chromium") {
            binary if binary.exists() => json!({"args": arguments, "binary": binary}),
            _ => json!({"args": arguments}),
        };
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{}", self.driver))
            .await
            .expect("chromium starts");
        self.session = client.session_id().await.expect("session").expect("session");
        self.client = Some(client);
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}),
        );
        self.devtools("Emulation.setTouchEmulationEnabled", &json!({"enabled": touch}));
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Closes the browser; the profile stays.
    pub async fn close(&mut self) {
        if let Some(client) = self.client.take() {
            client.close().await.expect("chromium closes");
        }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("the browser is open")
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        post(self.driver, &path, &body.to_string())
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// The errors in the console since the last call. `network` leaves out those that the browser
    /// itself writes when a server cannot be reached.
    pub fn console_errors(&self, network: Network) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        let entries = log["value"].as_array().expect("a log");
        entries
            .iter()
            .filter(|entry| entry["level"] == "SEVERE")
            .filter_map(|entry| entry["message"].as_str())
            .filter(|message| {
                let of_network =
                    message.contains("WebSocket connection to") || message.contains("net::ERR_");
                !(network == Network::Broken && of_network)
            })
            .map(str::to_owned)
            .collect()
    }

    pub async fn goto(&self, url: &str) {
        self.client().goto(url).await.expect("the page opens");
    }

    pub async fn reload(&self) {
        self.client().refresh().await.expect("the page reloads");
    }

    /// Tells the page that it is hidden, or visible again: headless tabs are always in front.
    pub async fn set_visible(&self, visible: bool) {
        let script = "const state = arguments[0] ? 'visible' : 'hidden'; \
             Object.defineProperty(document, 'visibilityState', \
             { configurable: true, get: () => state }); \
             document.dispatchEvent(new Event('visibilitychange'))";
        self.eval(script, vec![json!(visible)]).await;
    }

    /// Runs the body of a function in the page.
    pub async fn eval(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client().execute(script, arguments).await.expect("the script runs")
    }

    /// Waits until the script answers something true, and gives it.
    pub async fn until(&self, what: &str, script: &str, arguments: Vec<Value>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.eval(script, arguments.clone()).await;
            if answer != Value::Null && answer != json!(false) {
                return answer;
            }
            if Instant::now() > deadline {
                self.shot("failed").await;
                let text = self.eval("return document.body.innerText", vec![]).await;
                panic!("{what}: did not happen. The page shows:\n{}", text.as_str().unwrap_or(""));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn element(&self, css: &str) -> Element {
        let visible = "const e = document.querySelector(arguments[0]); \
             return Boolean(e && e.getClientRects().length && !e.disabled)";
        self.until(css, visible, vec![json!(css)]).await;
        self.client().find(Locator::Css(css)).await.expect("the element")
    }

    /// Clicks; an element that is drawn anew just then is looked for again.
    pub async fn click(&self, css: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.element(css).await.click().await {
                Ok(()) => return,
                Err(error) if Instant::now() > deadline => panic!("cannot click {css}: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub async fn write(&self, css: &str, text: &str) {
        self.element(css).await.send_keys(text).await.expect("the text is typed");
    }

    /// Presses keys wherever the focus is.
    pub async fn keys(&self, keys: &str) {
        let focused = self.client().active_element().await.expect("something has the focus");
        focused.send_keys(keys).await.expect("the keys are pressed");
    }

    /// Keeps a picture under `target/screenshots/`.
    pub async fn shot(&self, name: &str) {
        let folder = screenshots();
        fs::create_dir_all(&folder).expect("folder");
        let picture = self.client().screenshot().await.expect("a picture");
        fs::write(folder.join(format!("{name}.png")), picture).expect("written");
    }

    // --- the page ---

    pub async fn sign_up(&self, page: &str, name: &str) {
        self.goto(page).await;
        self.click(&test_id("auth-sign-up")).await;
        self.write(&test_id("auth-name"), name).await;
        self.write(&test_id("auth-password"), &format!("{name}-secret")).await;
        self.click(&test_id("auth-submit")).await;
        self.until_online().await;
    }

    pub async fn sign_in(&self, page: &str, name: &str) {
        self.goto(page).await;
        self.write(&test_id("auth-name"), name).await;
        self.write(&test_id("auth-password"), &format!("{name}-secret")).await;
        self.click(&test_id("auth-submit")).await;
        self.until_online().await;
    }

    pub async fn until_online(&self) {
        self.until_text("self-state", "online").await;
    }

    /// Waits until the element of this test id has this text.
    pub async fn until_text(&self, id: &str, text: &str) {
        let script = "const e = document.querySelector(arguments[0]); \
             return Boolean(e && e.innerText.trim() === arguments[1])";
        self.until(&format!("{id}: {text}"), script, vec![json!(test_id(id)), json!(text)]).await;
    }

    /// Finds a person and opens the chat with them.
    pub async fn chat_with(&self, person: &str) {
        self.write(&test_id("search"), person).await;
        self.click(&format!("[data-person='{person}']")).await;
        self.until_text("chat-title", person).await;
    }

    /// Opens a conversation of the list.
    pub async fn open_conversation(&self, id: &str) {
        self.click(&format!("[data-conversation='{id}']")).await;
        self.element(&test_id("composer")).await;
    }

    /// Writes into the composer and sends with Enter.
    pub async fn say(&self, text: &str) {
        self.write(&test_id("composer"), &format!("{text}{ENTER}")).await;
    }

    /// Puts a text in the place of what a field has.
    pub async fn rewrite(&self, css: &str, text: &str) {
        let script = "const e = document.querySelector(arguments[0]); e.focus(); e.select();";
        self.element(css).await;
        self.eval(script, vec![json!(css)]).await;
        self.write(css, text).await;
    }

    /// Opens what can be done with the message of this text.
    pub async fn open_menu(&self, text: &str) {
        let script = "const m = [...document.querySelectorAll('[data-testid=message]')].find(m => \
             m.querySelector('[data-testid=text]').textContent === arguments[0]); \
             const more = m?.querySelector('[data-testid=message-more]'); more?.click(); \
             return Boolean(more)";
        self.until(&format!("the menu of {text}"), script, vec![json!(text)]).await;
    }

    /// The unread count of a conversation in the list.
    pub async fn until_unread(&self, id: &str, count: u64) {
        let script = "const c = document.querySelector(`[data-conversation='${arguments[0]}']`); \
             return Boolean(c) && (parseInt(c.querySelector('[data-testid=unread]')?.innerText) \
             || 0) === arguments[1]";
        self.until(&format!("{count} unread in {id}"), script, vec![json!(id), json!(count)]).await;
    }

    /// The messages of the open conversation, as they stand.
    pub async fn shown(&self) -> Vec<Shown> {
        let script = "return [...document.querySelectorAll('[data-testid=message]')].map(m => ({ \
             seq: Number(m.dataset.seq || 0), from: m.dataset.from, state: m.dataset.state || '', \
             text: m.querySelector('[data-testid=text]').textContent }))";
        let rows = self.eval(script, vec![]).await;
        let field = |row: &Value, name: &str| row[name].as_str().expect("a field").to_owned();
        rows.as_array()
            .expect("rows")
            .iter()
            .map(|row| Shown {
                seq: row["seq"].as_u64().expect("a number"),
                from: field(row, "from"),
                text: field(row, "text"),
                state: field(row, "state"),
            })
            .collect()
    }

    /// Waits until the open conversation shows exactly these texts.
    pub async fn until_texts(&self, texts: &[String]) {
        let script = "const t = [...document.querySelectorAll('[data-testid=message] \
             [data-testid=text]')].map(e => e.textContent); \
             return t.length === arguments[0].length && t.every((x, i) => x === arguments[0][i])";
        self.until(&format!("the texts {texts:?}"), script, vec![json!(texts)]).await;
    }

    /// Waits until the open conversation shows a text in this state.
    pub async fn until_state(&self, text: &str, state: &str) {
        let script = "return [...document.querySelectorAll('[data-testid=message]')].some(m => \
             m.dataset.state === arguments[1] && \
             m.querySelector('[data-testid=text]').textContent === arguments[0])";
        self.until(&format!("{text}: {state}"), script, vec![json!(text), json!(state)]).await;
    }
}

impl Drop for Browser {
    // After a failed test chromedriver is gone and cannot end the browser: its processes are found by
    // the profile, which nobody else uses.
    fn drop(&mut self) {
        let profile = self.profile.path().display().to_string();
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.filter_map(Result::ok) {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&profile) {
                let id = process.file_name().to_string_lossy().into_owned();
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        }
    }
}

/// Whether the browser's own complaints about an unreachable server count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Fine,
    Broken,
}

/// The selector of an element by its test id.
pub fn test_id(id: &str) -> String {
    format!("[data-testid='{id}']")
}

/// Calls an extension of chromedriver, which does not close the connection after its answer.
fn post(address: SocketAddr, path: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("the call is sent");
    let mut answer = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).expect("an answer");
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

fn screenshots() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("screenshots")
}
