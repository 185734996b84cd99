use super::*;

#[tokio::test]
async fn an_export_has_every_message_once_and_in_order() {
    const MESSAGES: u64 = 250;
    let api = Api::new().await;
    for number in 1..=MESSAGES {
        let message = json!({"to": "/user/bob", "body": format!("line {number}\n会")});
        assert_eq!(api.send("alice", message).await.0, StatusCode::CREATED);
    }
    let get = async |user: &str, id: &str| {
        let request = api.authorized(user).uri(format!("/api/v1/conversations/{id}/export"));
        let request = request.body(Body::empty()).expect("a request");
        let response = api.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
    };
    let (status, headers, text) = get("bob", "direct%3Aalice%3Abob").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-ndjson");
    let disposition = "attachment; filename*=UTF-8''direct-alice-bob.ndjson";
    assert_eq!(headers[header::CONTENT_DISPOSITION], disposition);
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["record"], "conversation");
    let messages: Vec<_> = lines.iter().filter(|line| line["record"].is_null()).collect();
    let seqs: Vec<_> = messages.iter().filter_map(|message| message["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=MESSAGES).collect::<Vec<_>>());
    assert_eq!(messages[6]["body"], "line 7\n会");
    let page = "/conversations/direct%3Aalice%3Abob/messages?after=0&limit=1";
    let (_, _, page) = api.call("bob", "GET", page, None).await;
    assert_eq!(messages[0], &page["messages"][0], "as in the history");

    for id in ["direct%3Aalice%3Abob", "group%3Anone", "nothing"] {
        assert_eq!(get("mallory", id).await.0, StatusCode::NOT_FOUND, "{id}");
    }
    let none = get("mallory", "direct%3Aalice%3Amallory").await.2;
    assert_eq!(none.lines().count(), 1, "one without messages: {none}");

    let put = async |user: &str, text: String| {
        let request = api.authorized(user).method("POST");
        let request = request.uri("/api/v1/conversations/direct%3Aalice%3Abob/import");
        let request = request.body(Body::from(text)).expect("a request");
        let response = api.router.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    let (status, report) = put("root", text.clone()).await;
    assert_eq!((status, &report["imported"]), (StatusCode::OK, &json!(0)), "all of it is here");
    let (status, problem) = put("root", text.replacen("utf8", "utf9", 1)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        problem["detail"].as_str().is_some_and(|text| text.starts_with("line 2: ")),
        "{problem}"
    );
    let (status, _) =
        put("root", text.replacen("\"seq\":1,\"id\":\"0", "\"seq\":1,\"id\":\"f", 1)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(put("bob", text).await.0, StatusCode::FORBIDDEN, "for administrators");
    let long = "x".repeat(crate::archive::MAX_IMPORT_LINE + 1);
    assert_eq!(put("root", long).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}
