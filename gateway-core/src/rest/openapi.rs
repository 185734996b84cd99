//! The description of the calls, and the page that shows it.

use axum::Router;
use axum::http::{HeaderValue, Method, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    OpenApi, PathItem, Ref, RefOr, ResponseBuilder, SecurityRequirement, content,
};
use utoipa::{OpenApi as _, ToSchema};

use super::caller::Scopes;
use super::problem::ProblemDocument;

/// Nothing but the page's own files: no script of anybody else.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What stands above the calls.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Instant messaging",
        description = "REST beside STOMP: what is sent here arrives there, and the other way round. \
            Errors are problem documents (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "messages", description = "Send."),
        (name = "conversations", description = "What was said."),
        (name = "attachments", description = "Files that messages refer to."),
        (name = "groups", description = "Who is in which group."),
        (name = "users", description = "Who there is, and who you are."),
        (name = "keys", description = "Services, and what they may."),
        (name = "admin", description = "Who is connected to this node, and what is consumed."),
        (name = "webhooks", description = "What happens, told to programs of others."),
    ),
    components(schemas(ProblemDocument))
)]
struct Base;

/// The document without its calls; they are below `/api`.
pub(super) fn base() -> OpenApi {
    Base::openapi()
}

/// Adds what all calls have in common: ways to sign in, and the answer that says why not.
pub(super) fn complete(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_default();
    for (name, scheme, what) in [
        ("bearer", HttpAuthScheme::Bearer, "A token of `POST /api/v1/tokens`."),
        ("basic", HttpAuthScheme::Basic, "Name and password."),
        ("key", HttpAuthScheme::Bearer, "A key of a service, with the scopes that are named."),
    ] {
        let http = HttpBuilder::new().scheme(scheme).description(Some(what)).build();
        components.security_schemes.insert(name.to_owned(), RefOr::T(SecurityScheme::Http(http)));
    }
    let problem = ResponseBuilder::new()
        .description("Why the call was not done.")
        .content(
            "application/problem+json",
            content::Content::new(Some(Ref::from_schema_name(ProblemDocument::name()))),
        )
        .build();
    components.responses.insert("Problem".to_owned(), RefOr::T(problem));
    let calls = std::mem::take(&mut api.paths.paths);
    api.paths.paths =
        calls.into_iter().map(|(path, item)| (format!("/api{path}"), with_common(item))).collect();
    api
}

fn with_common(mut item: PathItem) -> PathItem {
    let operations = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.options,
        &mut item.head,
        &mut item.patch,
        &mut item.trace,
    ];
    for operation in operations.into_iter().flatten() {
        let problem = RefOr::Ref(Ref::from_response_name("Problem"));
        operation.responses.responses.insert("default".to_owned(), problem);
        if !is_public(operation) {
            let people = ["bearer", "basic"].map(|name| SecurityRequirement::new(name, [""; 0]));
            operation.security.get_or_insert_default().splice(0..0, people);
        }
    }
    item
}

/// Whether the call is for everybody: its security is one empty alternative.
fn is_public(operation: &Operation) -> bool {
    let open = [SecurityRequirement::default()];
    operation.security.as_deref() == Some(&open)
}

/// The scope that each call needs of a key.
pub(super) fn scopes(api: &OpenApi) -> Scopes {
    let mut scopes = Scopes::default();
    // A requirement shows what it requires as JSON only.
    let json = serde_json::to_value(&api.paths).unwrap_or_default();
    for (path, item) in json.as_object().into_iter().flatten() {
        for (method, call) in item.as_object().into_iter().flatten() {
            let ways = call["security"].as_array().into_iter().flatten();
            let scope = ways.filter_map(|way| way["key"][0].as_str()?.parse().ok()).next();
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes());
            if let (Some(scope), Ok(method)) = (scope, method) {
                scopes.add(method, path, scope);
            }
        }
    }
    scopes
}

/// The document as JSON, indented.
pub(super) fn text(api: &OpenApi) -> String {
    api.to_pretty_json().unwrap_or_default()
}

/// The document, and the page that shows it: below `/api`.
pub(super) fn routes(api: &OpenApi) -> Router {
    Router::new()
        .route("/openapi.json", file("application/json", text(api)))
        .route("/docs", file("text/html; charset=utf-8", include_str!("docs/index.html")))
        .route("/docs.js", file("text/javascript; charset=utf-8", include_str!("docs/docs.js")))
        .route("/docs.css", file("text/css; charset=utf-8", include_str!("docs/docs.css")))
}

fn file(content_type: &'static str, content: impl Into<axum::body::Bytes>) -> MethodRouter {
    let content = content.into();
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A page of one version must not show the calls of another.
        (header::CACHE_CONTROL, "no-cache"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)));
    get(move || async move { (headers, content).into_response() })
}
