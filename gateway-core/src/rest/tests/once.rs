use super::*;

impl Api {
    /// One call with this `Idempotency-Key`.
    async fn once(&self, user: &str, key: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.authorized(user).method("POST").uri(format!("/api/v1{path}"));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.header("idempotency-key", key);
        let (status, _, answer) =
            self.raw(request.body(Body::from(body.to_string())).expect("a request")).await;
        (status, answer)
    }
}

/// P4: what was made with an idempotency key is made once.
#[tokio::test]
async fn p4_a_repeat_gets_the_group_that_was_made() {
    let api = Api::new().await;
    let ops = json!({"name": "ops", "members": ["bob"]});
    let first = api.once("alice", "k", "/groups", ops.clone()).await;
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(api.once("alice", "k", "/groups", ops.clone()).await, first);
    for other in [json!({"name": "ops"}), json!({"name": "dev", "members": ["bob"]})] {
        let (status, problem) = api.once("alice", "k", "/groups", other).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    }
    let (status, ..) = api.call("alice", "GET", "/groups/dev", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // Nobody else's key, and no other one of the owner, makes it a repeat; nor does what made nothing.
    for (user, key) in [("bob", "k"), ("alice", "other"), ("alice", "other")] {
        let (status, _) = api.once(user, key, "/groups", ops.clone()).await;
        assert_eq!(status, StatusCode::CONFLICT, "{user} {key}");
    }
    let (status, ..) = api.call("alice", "POST", "/groups", Some(ops)).await;
    assert_eq!(status, StatusCode::CONFLICT, "without a key");
    let (status, _) = api.once("alice", "other", "/groups", json!({"name": "dev"})).await;
    assert_eq!(status, StatusCode::CREATED, "the key has made nothing before");
}

#[tokio::test]
async fn p4_a_repeat_signs_up_once_and_tells_nothing_without_the_password() {
    let api = Api::new().await;
    let dora = |password: &str| json!({"name": "dora", "password": password});
    let first = api.once("", "k", "/users", dora("sesame")).await;
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(api.once("", "k", "/users", dora("sesame")).await, first);
    let (status, _) = api.once("", "k", "/users", dora("guess")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(api.once("", "other", "/users", dora("sesame")).await.0, StatusCode::CONFLICT);
    assert_eq!(
        api.once("", "k", "/users", json!({"name": "alice", "password": "secret"})).await.0,
        StatusCode::CONFLICT,
        "she was made without a key"
    );
    // V-30: it is no way around what slows down guessing.
    while api.once("", "k", "/users", dora("guess")).await.0 == StatusCode::UNPROCESSABLE_ENTITY {}
    let (status, _) = api.once("", "k", "/users", dora("sesame")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn p4_a_key_is_made_and_shown_once() {
    let api = Api::new().await;
    let key = json!({"service": "billing", "scopes": ["read"]});
    assert_eq!(api.once("root", "k", "/keys", key.clone()).await.0, StatusCode::CREATED);
    assert_eq!(api.once("root", "k", "/keys", key).await.0, StatusCode::CONFLICT);
    for other in [
        json!({"service": "billing", "scopes": ["read", "send"]}),
        json!({"service": "billing", "scopes": ["read"], "label": "x"}),
        json!({"service": "billing", "scopes": ["read"], "expires": 7}),
    ] {
        let (status, problem) = api.once("root", "k", "/keys", other).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    }
    let (_, _, keys) = api.call("root", "GET", "/keys", None).await;
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn users_come_in_pages() {
    let api = Api::new().await;
    let page = async |query: &str| {
        let (status, _, page) = api.call("alice", "GET", &format!("/users?{query}"), None).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page
    };
    assert_eq!(
        page("limit=3").await,
        json!({"users": ["alice", "bob", "mallory"], "next": "mallory"})
    );
    assert_eq!(page("limit=3&cursor=mallory").await, json!({"users": ["root"], "next": null}));
    assert_eq!(page("q=m&limit=1").await, json!({"users": ["mallory"], "next": "mallory"}));
    assert_eq!(page("q=m&limit=1&cursor=mallory").await, json!({"users": [], "next": null}));
    for query in ["limit=0", "limit=201", "cursor=a%2Fb"] {
        let (status, ..) = api.call("alice", "GET", &format!("/users?{query}"), None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
}
