//! Mallory and the files: names that leave the folder, content that wants to run in a browser, attachments of
//! conversations of others.
#![cfg(feature = "rest")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use common::*;
use gateway_core::{
    AttachmentLimits, FolderBlobs, Gateway, JwtAuthenticator, JwtOptions, RestApi, TokenKey,
};
use tower::ServiceExt as _;

struct Files {
    gateway: Gateway,
    tokens: JwtAuthenticator,
    router: Router,
    /// With a neighbour beside the folder of the attachments.
    folder: tempfile::TempDir,
}

impl Files {
    async fn new() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("neighbour"), "secret").unwrap();
        let blobs = Arc::new(FolderBlobs::open(folder.path().join("blobs")).unwrap());
        let tokens = JwtOptions::new(TokenKey::new([7; 32]).unwrap(), "t", "t").build();
        let chain = gateway_core::AuthenticatorChain::new().then(tokens.clone()).then(Trusting);
        let builder = Gateway::builder().authenticator(Arc::new(chain));
        let gateway = populated(builder.attachments(blobs, AttachmentLimits::default())).await;
        gateway.create_user(&user("mallory"), None).await.unwrap();
        let router = RestApi::new(gateway.clone(), tokens.clone()).router();
        Self { gateway, tokens, router, folder }
    }

    async fn call(
        &self,
        name: &str,
        method: &str,
        path: &str,
        content_type: &str,
        content: &str,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let token = self.tokens.issue(&user(name)).unwrap();
        let request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        let request = request.header("authorization", format!("Bearer {}", token.token.expose()));
        let request = request.header("content-type", content_type);
        let request = request.body(Body::from(content.to_owned())).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
    }

    /// Uploads to a conversation; gives its id where it was taken.
    async fn upload(
        &self,
        who: &str,
        to: &str,
        content_type: &str,
        content: &str,
    ) -> Option<String> {
        let path = format!("/conversations/{to}");
        let (status, _, body) = self.call(who, "POST", &path, content_type, content).await;
        assert!(!status.is_server_error(), "{path}: {status}");
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (status == StatusCode::CREATED).then(|| answer["id"].as_str().unwrap().to_owned())
    }

    async fn download(&self, who: &str, id: &str) -> (StatusCode, HeaderMap, Bytes) {
        self.call(who, "GET", &format!("/attachments/{id}"), "text/plain", "").await
    }
}

/// All files below a folder, by their path from there.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn p8_no_name_of_a_file_is_a_path() {
    let files_of = Files::new().await;
    for name in [
        "..%2F..%2Fneighbour",
        "%2Fetc%2Fpasswd",
        "..%5Cneighbour",
        "a%2Fb",
        "a%00.png",
        "a%0D%0ASet-Cookie:%20im=x",
        "%C2%85",
        "",
    ] {
        let to = format!("group%3Aops/attachments?name={name}");
        assert_eq!(files_of.upload("alice", &to, "text/plain", "x").await, None, "{name}");
    }
    // What is a name somewhere and means something elsewhere is only ever shown.
    for name in
        ["..", ".", ".htaccess", "CON", "C:neighbour", "-rf", "neighbour", "%22;x=%22", "%25"]
    {
        let to = format!("group%3Aops/attachments?name={name}");
        let id = files_of.upload("alice", &to, "text/plain", "x").await.expect(name);
        let (status, headers, _) = files_of.download("bob", &id).await;
        let shown = headers["content-disposition"].to_str().unwrap();
        let shown = shown.strip_prefix("attachment; filename*=UTF-8''").expect(name);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
        assert!(status == StatusCode::OK && shown.chars().all(plain), "{name}: {shown}");
    }
    for file in files(files_of.folder.path()) {
        let is_kept = file.strip_prefix("blobs/").is_some_and(|name| {
            name.chars().all(|c| c.is_ascii_hexdigit() || "/.".contains(c)) && !name.contains("..")
        });
        assert!(is_kept || file == "neighbour", "{file}");
    }
    let neighbour = std::fs::read_to_string(files_of.folder.path().join("neighbour")).unwrap();
    assert_eq!(neighbour, "secret");
    for id in
        ["..%2F..%2Fneighbour", "%2e%2e/neighbour", "..%2Funfinished", "neighbour", "%00", "%2F"]
    {
        let (status, _, body) = files_of.download("alice", id).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{id}: {body:?}");
    }
}

#[tokio::test]
async fn p8_no_content_is_run_by_the_browser_that_gets_it() {
    let files = Files::new().await;
    for content_type in [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "text/html, image/png",
        "image/png, text/html",
        "image/svg+xml",
        "application/xml",
        "text/javascript",
        "text/css",
        "application/pdf",
        "multipart/x-mixed-replace; boundary=x",
        "image/png; x=\"text/html\"",
        "image/png",
        "text/plain; charset=utf-7",
    ] {
        let content = "GIF89a/*<script>alert(document.domain)</script>*/";
        let to = "direct%3Aalice%3Abob/attachments?name=a.html";
        let Some(id) = files.upload("alice", to, content_type, content).await else { continue };
        let (_, headers, _) = files.download("bob", &id).await;
        let header = |name| headers[name].to_str().unwrap();
        let harmless = ["application/octet-stream", "image/png", "text/plain"];
        assert!(harmless.contains(&header("content-type")), "{content_type}");
        let is_declared = content_type.starts_with(header("content-type"));
        assert!(is_declared || header("content-type") == harmless[0], "{content_type}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{content_type}");
        assert!(header("content-disposition").starts_with("attachment;"), "{content_type}");
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    }
}

/// A message that refers to an attachment gives nobody the attachment.
#[tokio::test]
async fn p8_an_attachment_stays_in_its_conversation() {
    let files = Files::new().await;
    let to = "group%3Aops/attachments?name=a";
    let id = files.upload("alice", to, "text/plain", "secret").await.unwrap();
    assert_eq!(files.download("bob", &id).await.0, StatusCode::OK);
    let mallory = connect(&files.gateway, "mallory").await;
    // A refusal ends the session; where it is not refused, it is a text like any other.
    let over_stomp = mallory.send("/user/carol", "x").header("attachment", &id);
    let _ = over_stomp.confirmed().await;
    let json = format!(r#"{{"to":"/user/carol","body":"x","attachment":"{id}"}}"#);
    files.call("mallory", "POST", "/messages", "application/json", &json).await;
    for name in ["mallory", "carol"] {
        let (status, _, body) = files.download(name, &id).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{name}");
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
    for to in [
        "group%3Aops/attachments?name=a",
        "group%3Anone/attachments?name=a",
        "direct%3Aalice%3Abob/attachments?name=a",
        "direct%3Amallory%3Amallory/../direct%3Aalice%3Abob/attachments?name=a",
        "broadcast%3Aall/attachments?name=a",
    ] {
        assert_eq!(files.upload("mallory", to, "text/plain", "x").await, None, "{to}");
    }
    let own =
        files.upload("mallory", "direct%3Acarol%3Amallory/attachments?name=a", "text/plain", "x");
    assert!(own.await.is_some(), "mallory uploads to carol");
}
