//! Spans: the parts of a call's trace that this daemon adds.

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use rhd_protocol::call::{Call, Verb};

use super::{
    counters::{Outcome, outcome_name},
    export,
};

/// Which part of a call's way this daemon sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A client of this node calls: until the final reply is here.
    Call,
    /// A peer's call came in.
    Serve,
    /// A worker of this node runs it, the wait for a lane included.
    Execute,
}

impl Stage {
    pub(super) const ALL: [Self; 3] = [Self::Call, Self::Serve, Self::Execute];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Serve => "serve",
            Self::Execute => "execute",
        }
    }

    fn span(self) -> (&'static str, SpanKind) {
        match self {
            Self::Call => ("rhd.call", SpanKind::Client),
            Self::Serve => ("rhd.serve", SpanKind::Server),
            Self::Execute => ("rhd.execute", SpanKind::Internal),
        }
    }
}

/// Makes spans and hands them to the exporter.
pub(super) struct Tracer {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    node: String,
}

impl Tracer {
    /// A tracer, where the environment says where to export to.
    pub(super) fn from_environment(node: &str) -> Option<Self> {
        let provider = export::provider()?;
        let tracer = opentelemetry::trace::TracerProvider::tracer(&provider, "rhd");
        Some(Self { provider, tracer, node: node.to_owned() })
    }

    /// Starts a span below the one that the call names, or a trace of its own.
    pub(super) fn start(&self, stage: Stage, call: &Call) -> Span {
        let (name, kind) = stage.span();
        let mut attributes = vec![
            KeyValue::new("rpc.system", "rhd"),
            KeyValue::new("rpc.service", call.service.clone()),
            KeyValue::new("rhd.call", call.id.to_string()),
            KeyValue::new("rhd.node", self.node.clone()),
        ];
        if let Some(method) = &call.method {
            attributes.push(KeyValue::new("rpc.method", method.clone()));
        }
        if call.verb != Verb::Call {
            attributes.push(KeyValue::new("rhd.verb", format!("{:?}", call.verb).to_lowercase()));
        }
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        let parent = call.trace.as_deref().map_or_else(Context::new, parent);
        Span(self.tracer.build_with_context(builder, &parent))
    }

    /// Sends what is left; blocks.
    pub(super) fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(export::LAST_WORDS) {
            tracing::warn!(%error, "traces were not sent");
        }
    }
}

/// A part of a call's trace; its end is where it is sent.
pub(super) struct Span(opentelemetry_sdk::trace::Span);

impl Span {
    /// Its context, as the next hop takes it.
    pub(super) fn traceparent(&self) -> Option<String> {
        let context = self.0.span_context();
        context.is_valid().then(|| traceparent(context))
    }

    /// Ends it.
    pub(super) fn end(mut self, outcome: Outcome) {
        if outcome.is_some() {
            let name = outcome_name(outcome);
            self.0.set_attribute(KeyValue::new("error.type", name));
            self.0.set_status(Status::error(name));
        }
        self.0.end();
    }
}

/// The W3C form: https://www.w3.org/TR/trace-context/#traceparent-header
fn traceparent(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8();
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

/// Whether a text is a `traceparent` that is worth passing on.
pub fn is_traceparent(text: &str) -> bool {
    text.len() == 55 && parent(text).span().span_context().is_valid()
}

fn parent(text: &str) -> Context {
    struct One<'a>(&'a str);
    impl Extractor for One<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == "traceparent").then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &One(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_comes_back_as_it_was_and_nothing_else_is_one() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(parent(text).span().span_context()), text);
        assert!(is_traceparent(text));
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-0\n",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(bad), "{bad:?}");
        }
    }
}
