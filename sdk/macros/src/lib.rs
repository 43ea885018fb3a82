//! `#[rhd_sdk::function]`: a function of this program that nodes can run, or one of another's that
//! this program calls.

mod declared;
mod defined;
mod output;
mod parts;

use proc_macro::TokenStream;
use syn::{Error, Result};

use parts::{Item, Options};

/// Makes a function one that nodes can run; without a body, one that some node hosts already.
///
/// With a body, the function stays what it is, and beside it there is a type of the same name:
///
/// ```ignore
/// #[rhd::function]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// let remote = square::to(&cluster).await?;    // sends this program, where the node lacks it
/// assert_eq!(remote.call(7).await?, 49);
/// ```
///
/// It may be `async`, and may return a `Result`, whose error becomes the caller's with its message,
/// or an iterator or a stream (`impl Iterator<Item = T>`, `impl Stream<Item = T>`; of other types,
/// such as a `Vec`, with the option `stream`), whose items the caller reads as they come. Arguments
/// and results are what serde reads and writes, owned.
///
/// Without a body, `async fn add(a: i64, b: i64) -> i64;` becomes a function that takes a client
/// before its own arguments, `add(&client, 2, 3)`, whoever hosts it in whatever language.
///
/// The remote name is the function's own, or the one given as `#[function(name = "/ann/add")]`.
#[proc_macro_attribute]
pub fn function(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(
    options: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> Result<proc_macro2::TokenStream> {
    let options = Options::parse(options)?;
    let item: Item = syn::parse2(item)?;
    item.check()?;
    match &item.body {
        None => declared::expand(&options, &item),
        Some(body) => defined::expand(&options, &item, body),
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::quote;

    use super::*;

    fn error(options: TokenStream, item: TokenStream) -> String {
        expand(options, item).unwrap_err().to_string()
    }

    #[test]
    fn what_can_not_be_called_remotely_is_refused_in_words() {
        let refused = |item: TokenStream, says: &str| {
            let error = error(quote!(), item);
            assert!(error.contains(says), "{error}");
        };
        refused(
            quote!(
                fn f();
            ),
            "async",
        );
        refused(
            quote!(
                async fn f<T>(a: T);
            ),
            "generics",
        );
        refused(
            quote!(
                fn f<T>(a: T) {}
            ),
            "generics",
        );
        refused(
            quote!(
                async fn f(&self);
            ),
            "self",
        );
        refused(
            quote!(
                fn f(self) {}
            ),
            "self",
        );
        refused(
            quote!(
                async fn f((a, b): (u8, u8));
            ),
            "is a name",
        );
        refused(
            quote!(
                async fn f(client: u8);
            ),
            "client",
        );
        refused(
            quote!(
                fn f(a: &str) {}
            ),
            "owned",
        );
        refused(
            quote!(
                fn f(a: impl Into<u8>) {}
            ),
            "type",
        );
        refused(
            quote!(
                unsafe fn f() {}
            ),
            "unsafe",
        );
        refused(
            quote!(
                async fn f() -> impl Iterator<Item = u8> {
                    [1].into_iter()
                }
            ),
            "plain fn",
        );
        refused(
            quote!(
                fn f() -> impl std::fmt::Debug {
                    1
                }
            ),
            "type",
        );
        refused(
            quote!(
                fn f(
                    a: u8,
                    b: u8,
                    c: u8,
                    d: u8,
                    e: u8,
                    f: u8,
                    g: u8,
                    h: u8,
                    i: u8,
                    j: u8,
                    k: u8,
                    l: u8,
                    m: u8,
                ) {
                }
            ),
            "twelve",
        );
        assert!(
            error(
                quote!(nmae = "x"),
                quote!(
                    async fn f();
                )
            )
            .contains("name")
        );
    }
}
