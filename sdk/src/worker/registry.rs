//! The functions that are compiled into this program.

use std::pin::Pin;

use futures::StreamExt;
use rhd_protocol::{
    call::Codec,
    error::ErrorInfo,
    service::{Flavor, Interface},
};

use super::args::Input;

/// A result as it travels, to come.
pub type Future =
    Pin<Box<dyn std::future::Future<Output = Result<Vec<u8>, ErrorInfo>> + Send + 'static>>;
/// Items as they travel, one for each call; `None` at their end.
pub type Items = Box<dyn FnMut(&mut Vec<u8>) -> Option<Result<(), ErrorInfo>>>;
/// Items as they travel, to come.
pub type Stream = Pin<Box<dyn futures::Stream<Item = Result<Vec<u8>, ErrorInfo>> + Send + 'static>>;

/// How a function is run: reads its arguments, writes its result.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// Returns.
    Plain(fn(Input<'_>, &mut Vec<u8>) -> Result<(), ErrorInfo>),
    /// Gives an iterator.
    Iterator(fn(Input<'_>) -> Result<Items, ErrorInfo>),
    /// Is awaited.
    Async(fn(Input<'_>) -> Result<Future, ErrorInfo>),
    /// Gives a stream.
    Stream(fn(Input<'_>) -> Result<Stream, ErrorInfo>),
}

/// A function of this program.
#[derive(Debug)]
pub struct Registered {
    /// Its path, `crate::module::function`.
    pub symbol: &'static str,
    /// `(x: u64) -> u64`, for people.
    pub signature: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// How it is run.
    pub handler: Handler,
}

inventory::collect!(Registered);

impl Registered {
    /// The one that is registered under this path.
    pub(super) fn find(symbol: &str) -> Option<&'static Self> {
        all().find(|function| function.symbol == symbol)
    }

    /// What callers may do with it.
    pub(super) fn interface(&self) -> Interface {
        let flavor = match self.handler {
            Handler::Plain(_) => Flavor::Plain,
            Handler::Iterator(_) => Flavor::Generator,
            Handler::Async(_) => Flavor::Coroutine,
            Handler::Stream(_) => Flavor::AsyncGenerator,
        };
        let paragraph = self.doc.trim().split("\n\n").next().unwrap_or_default();
        let doc = paragraph.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let signature = self.signature.to_owned();
        Interface { flavor, signature, doc, codec: Some(Codec::Msgpack), ..Interface::default() }
    }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Registered> {
    inventory::iter::<Registered>.into_iter()
}

/// Writes one item after the other.
pub fn items<I>(
    items: I,
    mut write: impl FnMut(I::Item, &mut Vec<u8>) -> Result<(), ErrorInfo> + 'static,
) -> Items
where
    I: IntoIterator,
    I::IntoIter: 'static,
{
    let mut items = items.into_iter();
    Box::new(move |out| items.next().map(|item| write(item, out)))
}

/// Writes one item after the other, as they come.
pub fn stream<S>(
    items: S,
    mut write: impl FnMut(S::Item, &mut Vec<u8>) -> Result<(), ErrorInfo> + Send + 'static,
) -> Stream
where
    S: futures::Stream + Send + 'static,
{
    Box::pin(items.map(move |item| {
        let mut out = Vec::new();
        write(item, &mut out).map(|()| out)
    }))
}
