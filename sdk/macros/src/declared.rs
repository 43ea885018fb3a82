//! A function without a body: some node hosts it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Result, ReturnType};

use crate::parts::{Item, Options, sdk};

pub(crate) fn expand(options: &Options, item: &Item) -> Result<TokenStream> {
    let Item { attributes, visibility, signature, .. } = item;
    if signature.asyncness.is_none() {
        let message = "a remote function that is only declared is an async fn";
        return Err(Error::new(signature.fn_token.span, message));
    }
    let name = options.name.clone().unwrap_or_else(|| item.name());
    let (names, _) = item.arguments();
    if let Some(client) = names.iter().find(|name| **name == "client") {
        return Err(Error::new(client.span(), "client is the name of the first argument"));
    }
    let (sdk, ident, inputs) = (sdk(), &signature.ident, &signature.inputs);
    let output = match &signature.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, output) => quote!(#output),
    };
    // A unit would be written as nil; no arguments are an empty list.
    let packed = if names.is_empty() { quote!([(); 0]) } else { quote!((#(#names,)*)) };
    Ok(quote! {
        #(#attributes)*
        #visibility async fn #ident(
            client: &#sdk::Client,
            #inputs
        ) -> ::core::result::Result<#output, #sdk::ErrorInfo> {
            client.call(&#sdk::Invocation::of(#name), &#packed).await
        }
    })
}
