//! An OpenAPI 3.1 document of one function, class or object.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use rhd_protocol::{
    api::Described,
    service::{Flavor, Interface, ServiceKind},
};
use serde_json::{Map, Value, json};

use super::{
    failure::Failure,
    signature::{self, Parameter},
};

/// The last part of the path of such a document.
pub(super) const FILE: &str = "/openapi.json";

/// Answers with the document of a service.
pub(super) fn answer(described: &Described) -> Result<Response, Failure> {
    let body = serde_json::to_vec(&document(described))
        .map_err(|e| Failure::bad(format!("the document can't be written: {e}")))?;
    let mut response = body.into_response();
    let content_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn document(described: &Described) -> Value {
    let service = &described.service;
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": service.name,
            "description": service.interface.doc,
            "version": service.version.short(),
        },
        "servers": [{"url": "/"}],
        "paths": paths(&service.name, service.kind, &service.interface),
        "components": {
            "schemas": {"Error": error_schema()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        // Nothing, on this machine; the token, from any other.
        "security": [{}, {"token": []}],
    })
}

fn paths(name: &str, kind: ServiceKind, interface: &Interface) -> Map<String, Value> {
    let mut paths = Map::new();
    if kind == ServiceKind::Function {
        let (flavor, signature) = (interface.flavor, interface.signature.as_str());
        paths.insert(name.to_owned(), operations(name, flavor, signature, &interface.doc));
        return paths;
    }
    for (member, flavor) in &interface.members {
        let of_class = interface.class_members.contains(member);
        if member.starts_with('_') || (kind == ServiceKind::Class && !of_class) {
            continue;
        }
        let path = format!("{name}/{member}");
        let operations = operations(
            &path,
            *flavor,
            interface.signatures.get(member).map_or("", String::as_str),
            "",
        );
        paths.insert(path, operations);
    }
    paths
}

fn operations(name: &str, flavor: Flavor, signature: &str, doc: &str) -> Value {
    let known = signature::parse(signature);
    let parameters = known.as_ref().map_or(&[][..], |known| &known.parameters);
    let id = name.trim_matches('/').replace('/', ".");
    let summary = doc.lines().next().unwrap_or_default();
    if flavor == Flavor::Property {
        return json!({"get": {
            "operationId": id, "summary": summary, "responses": responses(flavor),
        }});
    }
    let more = known.as_ref().is_none_or(|known| known.more);
    json!({
        "post": {
            "operationId": id,
            "summary": summary,
            "description": format!("{signature}\n\n{doc}").trim(),
            "requestBody": {"content": {"application/json": {"schema": body(parameters, more)}}},
            "responses": responses(flavor),
        },
        "get": {
            "operationId": format!("{id}.get"),
            "summary": summary,
            "parameters": parameters.iter().map(query).collect::<Vec<_>>(),
            "responses": responses(flavor),
        },
    })
}

/// Named arguments, or a list of them in order.
fn body(parameters: &[Parameter], more: bool) -> Value {
    let properties: Map<String, Value> =
        parameters.iter().map(|p| (p.name.clone(), schema(p))).collect();
    let required: Vec<&str> =
        parameters.iter().filter(|p| p.required).map(|p| p.name.as_str()).collect();
    json!({"anyOf": [
        {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": more,
        },
        {"type": "array", "description": "arguments in their order"},
        {
            "type": "object",
            "properties": {"args": {"type": "array"}, "kwargs": {"type": "object"}},
            "additionalProperties": false,
        },
    ]})
}

fn query(parameter: &Parameter) -> Value {
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "schema": schema(parameter),
    })
}

fn schema(parameter: &Parameter) -> Value {
    let of = parameter.of.as_deref().unwrap_or_default();
    let plain = match of.split(['[', '<']).next().unwrap_or_default() {
        "int" | "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => {
            "integer"
        }
        "float" | "f32" | "f64" => "number",
        "str" | "String" => "string",
        "bool" => "boolean",
        "list" | "tuple" | "set" | "Vec" => "array",
        "dict" | "HashMap" | "BTreeMap" => "object",
        "" => return json!({}),
        _ => return json!({"description": of}),
    };
    json!({"type": plain})
}

fn responses(flavor: Flavor) -> Value {
    let json = match flavor {
        Flavor::Generator | Flavor::AsyncGenerator => json!({"schema": {"type": "array"}}),
        _ => json!({"schema": {}}),
    };
    let text = json!({"schema": {"type": "string"}});
    let error = json!({"schema": {"$ref": "#/components/schemas/Error"}});
    json!({
        "200": {
            "description": "what it returns, or yields",
            "content": {"application/json": json, "text/event-stream": text},
        },
        "default": {
            "description": "what went wrong",
            "content": {"application/json": error},
        },
    })
}

fn error_schema() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({
        "type": "object",
        "required": ["kind", "message"],
        "properties": {
            "kind": text("remote, peer_lost, timeout, not_found, …"),
            "message": text("what failed"),
            "hint": text("what to do about it"),
            "node": text("where it failed"),
            "call": text("the call's id"),
            "exc_type": text("class of the remote exception"),
            "traceback": text("its traceback"),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rhd_protocol::{id::Hash, service::Service};

    use super::*;

    fn described(kind: ServiceKind, interface: Interface) -> Described {
        let service = Service {
            name: "/ann/f".into(),
            kind,
            env: "base".into(),
            version: Hash::of(b""),
            generation: 1,
            class: None,
            interface,
        };
        Described { node: "n".into(), node_id: "id".into(), service }
    }

    #[test]
    fn a_function_is_described_by_its_signature() {
        let interface = Interface {
            signature: "(a: int, b=2)".into(),
            doc: "Adds.\n\nReally.".into(),
            ..Interface::default()
        };
        let doc = document(&described(ServiceKind::Function, interface));
        let post = &doc["paths"]["/ann/f"]["post"];
        assert_eq!(post["summary"], "Adds.");
        let schema = &post["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0];
        assert_eq!(schema["properties"]["a"]["type"], "integer");
        assert_eq!(
            (&schema["required"], &schema["additionalProperties"]),
            (&json!(["a"]), &json!(false))
        );
        assert_eq!(doc["paths"]["/ann/f"]["get"]["parameters"][1]["required"], false);
    }

    #[test]
    fn an_object_shows_its_public_members_and_a_class_its_own() {
        let members = [
            ("add", Flavor::Plain),
            ("total", Flavor::Property),
            ("__len__", Flavor::Plain),
            ("kind", Flavor::Plain),
        ];
        let members: BTreeMap<_, _> =
            members.map(|(name, flavor)| (name.to_owned(), flavor)).into();
        let interface =
            Interface { members, class_members: vec!["kind".into()], ..Interface::default() };
        let paths = |kind| {
            let doc = document(&described(kind, interface.clone()));
            doc["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(paths(ServiceKind::Instance), ["/ann/f/add", "/ann/f/kind", "/ann/f/total"]);
        assert_eq!(paths(ServiceKind::Class), ["/ann/f/kind"]);
        let doc = document(&described(ServiceKind::Instance, interface.clone()));
        assert!(doc["paths"]["/ann/f/total"]["post"].is_null(), "a property is read");
    }
}
