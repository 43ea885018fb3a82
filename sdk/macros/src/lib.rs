//! `#[rhd_sdk::function]`: a remote function, declared as a Rust one.

use proc_macro::TokenStream;
use quote::quote;
use syn::{
    Attribute, Error, FnArg, Ident, LitStr, Pat, Result, ReturnType, Signature, Token, Visibility,
    parse::{Parse, ParseStream, Parser},
    spanned::Spanned,
};

/// Declares a function that some node of the realm hosts, in whatever language, and makes it
/// callable: `async fn add(a: i64, b: i64) -> i64;` becomes
/// `async fn add(client: &Client, a: i64, b: i64) -> Result<i64, ErrorInfo>`.
///
/// Arguments and result travel as msgpack. The remote name is the function's own, or the one given
/// as `#[rhd_sdk::function(name = "/ann/add")]`.
#[proc_macro_attribute]
pub fn function(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

/// A function without a body.
struct Declaration {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let declaration = Self {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
        };
        if !input.peek(Token![;]) {
            let message = "a remote function has no body here: end its declaration with ';'";
            return Err(input.error(message));
        }
        input.parse::<Token![;]>()?;
        Ok(declaration)
    }
}

fn expand(
    options: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> Result<proc_macro2::TokenStream> {
    let Declaration { attributes, visibility, signature } = syn::parse2(item)?;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span, "a remote function is an async fn"));
    }
    if !signature.generics.params.is_empty() {
        let message = "a remote function has no generics: messages have concrete types";
        return Err(Error::new(signature.generics.span(), message));
    }
    let name = remote_name(options)?.unwrap_or_else(|| signature.ident.to_string());
    let arguments = signature.inputs.iter().map(argument).collect::<Result<Vec<_>>>()?;
    let (ident, inputs) = (&signature.ident, &signature.inputs);
    let output = match &signature.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, output) => quote!(#output),
    };
    // A unit would be written as nil; no arguments are an empty list.
    let packed = if arguments.is_empty() { quote!([(); 0]) } else { quote!((#(#arguments,)*)) };
    let call = quote! {
        client.call(&::rhd_sdk::Invocation::of(#name), &#packed).await
    };
    Ok(quote! {
        #(#attributes)*
        #visibility async fn #ident(
            client: &::rhd_sdk::Client,
            #inputs
        ) -> ::core::result::Result<#output, ::rhd_sdk::ErrorInfo> {
            #call
        }
    })
}

fn remote_name(options: proc_macro2::TokenStream) -> Result<Option<String>> {
    let mut name = None;
    let parser = syn::meta::parser(|option| {
        if !option.path.is_ident("name") {
            return Err(option.error("the one option is name = \"…\""));
        }
        name = Some(option.value()?.parse::<LitStr>()?.value());
        Ok(())
    });
    parser.parse2(options)?;
    Ok(name)
}

fn argument(input: &FnArg) -> Result<&Ident> {
    match input {
        FnArg::Typed(typed) => match &*typed.pat {
            Pat::Ident(pattern) if pattern.ident != "client" => Ok(&pattern.ident),
            Pat::Ident(pattern) => {
                Err(Error::new(pattern.span(), "client is the name of the first argument"))
            }
            pattern => {
                Err(Error::new(pattern.span(), "an argument of a remote function is a name"))
            }
        },
        FnArg::Receiver(receiver) => {
            Err(Error::new(receiver.span(), "a remote function has no self"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(options: proc_macro2::TokenStream, item: proc_macro2::TokenStream) -> String {
        expand(options, item).unwrap_err().to_string()
    }

    #[test]
    fn what_can_not_be_called_remotely_is_refused_in_words() {
        let none = || quote!();
        assert!(
            error(
                none(),
                quote!(
                    async fn f() {
                        1
                    }
                )
            )
            .contains("no body")
        );
        assert!(
            error(
                none(),
                quote!(
                    fn f();
                )
            )
            .contains("async")
        );
        assert!(
            error(
                none(),
                quote!(
                    async fn f<T>(a: T);
                )
            )
            .contains("generics")
        );
        assert!(
            error(
                none(),
                quote!(
                    async fn f(&self);
                )
            )
            .contains("self")
        );
        assert!(
            error(
                none(),
                quote!(
                    async fn f((a, b): (u8, u8));
                )
            )
            .contains("is a name")
        );
        assert!(
            error(
                none(),
                quote!(
                    async fn f(client: u8);
                )
            )
            .contains("client")
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
