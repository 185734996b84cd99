use super::*;

#[tokio::test]
async fn p8_presence_is_for_those_who_share_a_conversation() {
    let api = Api::new().await;
    api.send("alice", json!({"to": "/user/bob", "body": "hi"})).await;
    let bob = json!({"user": "bob", "presence": "offline", "last_seen": null});
    let (status, _, shown) = api.call("alice", "GET", "/presence/bob", None).await;
    assert_eq!((status, &shown), (StatusCode::OK, &bob));
    let alice = json!({"user": "alice", "presence": "offline", "last_seen": null});
    let asked = "/presence?users=mallory,bob,nobody,%23,alice";
    let (_, _, shown) = api.call("alice", "GET", asked, None).await;
    assert_eq!(shown, json!({"people": [bob, alice]}));
    for other in ["bob", "nobody", "%23"] {
        let (status, ..) = api.call("mallory", "GET", &format!("/presence/{other}"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{other}");
    }
    let many = format!("/presence?users={}", ["bob"; 101].join(","));
    let (status, ..) = api.call("alice", "GET", &many, None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
