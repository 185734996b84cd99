use bytes::Bytes;
use futures::stream;

use super::*;
use crate::attachments::AttachmentLimits;
use crate::blob::FolderBlobs;

struct Files {
    api: Api,
    folder: tempfile::TempDir,
}

impl Files {
    /// With the group `ops` of alice and bob, and at most 1000 octets.
    async fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let blobs = Arc::new(FolderBlobs::open(folder.path()).expect("a store"));
        let limits = AttachmentLimits::default().with_max_octets(1000);
        let api = Api::with(|gateway| gateway.attachments(blobs, limits)).await;
        let group = json!({"name": "ops", "members": ["bob"]});
        assert_eq!(api.call("alice", "POST", "/groups", Some(group)).await.0, StatusCode::CREATED);
        Self { api, folder }
    }

    async fn upload(
        &self,
        user: &str,
        to: &str,
        content_type: &str,
        body: Body,
    ) -> (StatusCode, Value) {
        let uri = format!("/api/v1/conversations/{to}");
        let request = self.api.authorized(user).method("POST").uri(uri);
        let request = request.header(header::CONTENT_TYPE, content_type).body(body);
        let (status, _, answer) = self.api.raw(request.expect("a request")).await;
        (status, answer)
    }

    async fn download(&self, user: &str, id: &str) -> (StatusCode, HeaderMap, Bytes) {
        let request = self.api.authorized(user).uri(format!("/api/v1/attachments/{id}"));
        let request = request.body(Body::empty()).expect("a request");
        let response = self.api.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.expect("a body"))
    }

    fn unfinished(&self) -> usize {
        let folder = std::fs::read_dir(self.folder.path().join("unfinished"));
        folder.expect("a folder").count()
    }
}

const OPS: &str = "group%3Aops/attachments?name=plan%20%E4%BC%9A.png";

#[tokio::test]
async fn p8_an_attachment_is_for_the_members_of_its_conversation() {
    let files = Files::new().await;
    let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let (status, kept) = files.upload("alice", OPS, "image/png", content.clone().into()).await;
    assert_eq!((status, &kept["size"]), (StatusCode::CREATED, &json!(1000)), "{kept}");
    let id = kept["id"].as_str().expect("an id");
    for user in ["alice", "bob"] {
        let (status, headers, got) = files.download(user, id).await;
        assert_eq!((status, &got[..]), (StatusCode::OK, &content[..]));
        assert_eq!(headers[header::CONTENT_TYPE], "image/png");
        assert_eq!(headers[header::CONTENT_LENGTH], "1000");
        let name = "attachment; filename*=UTF-8''plan%20%E4%BC%9A.png";
        assert_eq!(headers[header::CONTENT_DISPOSITION], name);
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    let upper = id.to_uppercase();
    let spellings = [id, &upper, &format!("{id}%2F"), &format!("..%2F{id}"), &format!("%00{id}")];
    let (_, _, none) = files.download("mallory", &"0".repeat(32)).await;
    for spelling in spellings {
        let (status, _, refusal) = files.download("mallory", spelling).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{spelling}");
        assert_eq!(refusal, none, "one that exists looks like one that does not");
    }
    assert_eq!(files.download("", id).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(files.download("bob", "..%2Funfinished").await.0, StatusCode::NOT_FOUND);
    for to in [OPS, "group%3Anone/attachments?name=x", "direct%3Aalice%3Abob/attachments?name=x"] {
        let (status, _) = files.upload("mallory", to, "image/png", "x".into()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{to}");
    }
}

#[tokio::test]
async fn p8_who_leaves_a_group_leaves_its_attachments() {
    let files = Files::new().await;
    let (_, kept) = files.upload("alice", OPS, "image/png", "x".into()).await;
    let id = kept["id"].as_str().expect("an id");
    assert_eq!(files.download("bob", id).await.0, StatusCode::OK);
    let (status, ..) = files.api.call("bob", "DELETE", "/groups/ops/members/bob", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(files.download("bob", id).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_could_run_in_a_browser_is_given_as_octets() {
    let files = Files::new().await;
    for content_type in ["text/html", "image/svg+xml", "text/javascript", "application/xhtml+xml"] {
        let (_, kept) = files.upload("alice", OPS, content_type, "<script>".into()).await;
        let (_, headers, _) = files.download("bob", kept["id"].as_str().expect("an id")).await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/octet-stream", "{content_type}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        assert!(policy.contains("sandbox"), "{policy}");
    }
}

/// P4: a repeat is the attachment that there is; the same key for something else is refused.
#[tokio::test]
async fn p4_a_repeat_gets_the_attachment_that_was_made() {
    let files = Files::new().await;
    let upload = async |user: &str, key: &str, to: &str, body: &'static str| {
        let uri = format!("/api/v1/conversations/{to}");
        let request = files.api.authorized(user).method("POST").uri(uri);
        let request = request.header(header::CONTENT_TYPE, "a/b").header("idempotency-key", key);
        let (status, _, answer) =
            files.api.raw(request.body(Body::from(body)).expect("a request")).await;
        (status, answer)
    };
    let kept = || {
        let names = std::fs::read_dir(files.folder.path().join("unfinished"));
        assert_eq!(names.expect("a folder").count(), 0);
        walk(files.folder.path())
    };
    let first = upload("alice", "k", OPS, "content").await;
    assert_eq!(first.0, StatusCode::CREATED, "{}", first.1);
    let files_of_one = kept();
    assert_eq!(upload("alice", "k", OPS, "content").await, first);
    assert_eq!(kept(), files_of_one, "nothing is kept of a repeat");
    let other_name = "group%3Aops/attachments?name=other";
    for (to, body) in [(OPS, "other content"), (other_name, "content")] {
        let (status, problem) = upload("alice", "k", to, body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    }
    for (user, key) in [("bob", "k"), ("alice", "other")] {
        let (status, other) = upload(user, key, OPS, "content").await;
        assert_eq!(status, StatusCode::CREATED, "{other}");
        assert_ne!(other["id"], first.1["id"], "{user} {key}");
    }
    let (status, _) = upload("alice", "", OPS, "content").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one"));
    let count = |path: std::path::PathBuf| if path.is_dir() { walk(&path) } else { 1 };
    entries.map(|entry| count(entry.path())).sum()
}

/// P7: neither what is announced nor what comes unannounced gets beyond the limit, and nothing of it stays.
#[tokio::test]
async fn p7_what_is_too_large_or_breaks_off_leaves_nothing() {
    let files = Files::new().await;
    let (status, problem) = files.upload("alice", OPS, "a/b", vec![0; 1001].into()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1000")), "{problem}");
    let part = || Ok::<_, std::io::Error>(Bytes::from(vec![0; 400]));
    let endless = Body::from_stream(stream::repeat_with(part));
    let (status, _) = files.upload("alice", OPS, "a/b", endless).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let broken = Body::from_stream(stream::iter([part(), Err(std::io::Error::other("gone"))]));
    let (status, _) = files.upload("alice", OPS, "a/b", broken).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(files.unfinished(), 0);
    let names = std::fs::read_dir(files.folder.path()).expect("a folder").count();
    assert_eq!(names, 1, "only the folder for what is unfinished");
}

#[tokio::test]
async fn p9_bad_names_and_types_are_refused() {
    let files = Files::new().await;
    for (to, content_type, wanted) in [
        ("group%3Aops/attachments?name=", "a/b", StatusCode::UNPROCESSABLE_ENTITY),
        ("group%3Aops/attachments?name=..%2Fx", "a/b", StatusCode::UNPROCESSABLE_ENTITY),
        ("group%3Aops/attachments?name=a%0D%0Ab", "a/b", StatusCode::UNPROCESSABLE_ENTITY),
        ("group%3Aops/attachments", "a/b", StatusCode::UNPROCESSABLE_ENTITY),
        (OPS, "nothing", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let (status, problem) = files.upload("alice", to, content_type, "x".into()).await;
        assert_eq!(status, wanted, "{to} {content_type}: {problem}");
    }
    let off = Api::new().await;
    let request = off.authorized("alice").uri(format!("/api/v1/attachments/{}", "0".repeat(32)));
    let (status, ..) = off.raw(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_muted_member_uploads_nothing() {
    let files = Files::new().await;
    let to = "group%3Aops/attachments?name=a.txt";
    let upload = async || files.upload("bob", to, "text/plain", Body::from("a")).await;
    let mute = async |until: u64| {
        let change = Some(json!({ "muted_until": until }));
        let (status, ..) =
            files.api.call("alice", "PATCH", "/groups/ops/members/bob", change).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    };
    mute(1 << 50).await;
    let (status, problem) = upload().await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    mute(0).await;
    assert_eq!(upload().await.0, StatusCode::CREATED);
}
