//! The page for people at `/`: what can be called, and how. It needs nothing from elsewhere.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use rhd_protocol::service::ServiceKind;

use super::Web;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>rhd</title>\
<meta name=viewport content=\"width=device-width\"><style>\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;\
border-bottom:1px solid #8884}code,pre{font:14px ui-monospace,monospace}\
pre{background:#8881;padding:1rem;overflow:auto}@media(prefers-color-scheme:dark)\
{body{background:#111;color:#ddd}a{color:#9cf}}</style>";

/// Answers `GET /`.
pub(super) async fn index(State(web): State<Web>) -> Response {
    let naming = &web.inner.naming;
    let mut rows = String::new();
    for (node, ad) in naming.hosts() {
        let (name, node) = (escaped(&ad.name), escaped(&naming.node_name(node)));
        let kind = match ad.kind {
            ServiceKind::Function => "function",
            ServiceKind::Class => "class",
            ServiceKind::Instance => "object",
        };
        rows.push_str(&format!(
            "<tr><td><code>{name}</code><td>{kind}<td>{node}<td><a href=\"{name}{}\">OpenAPI</a>",
            super::openapi::FILE
        ));
    }
    let empty =
        "<tr><td colspan=4>nothing yet: <code>rh.function(f, name=\"f\").to(\"here\")</code>";
    let rows = if rows.is_empty() { empty } else { &rows };
    let node = escaped(&web.inner.mesh.name());
    let example = "curl -H 'Content-Type: application/json' -d '{\"a\": 1}' http://HOST/NAME\n\
curl -H 'Content-Type: application/json' -d '[1, 2]' http://HOST/NAME/METHOD\n\
curl -H 'Accept: text/event-stream' 'http://HOST/NAME?a=1'";
    let body = format!(
        "{HEAD}<h1>{node}</h1><p>Functions and methods that this node can call. A body is JSON: an \
         object of named arguments, or an array of them in order. Numbers of the node: \
         <a href=/metrics>metrics</a>.<pre>{example}</pre>\
         <table><tr><th>name<th>kind<th>node<th>{rows}</table>"
    );
    let mut response = Html(body).into_response();
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    );
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_name_becomes_markup() {
        assert_eq!(super::escaped("<a b='\"'>&"), "&lt;a b=&#39;&quot;&#39;&gt;&amp;");
    }
}
