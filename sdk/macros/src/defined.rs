//! A function with a body: registered in this program, with a typed way to call it elsewhere.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Block, Error, Ident, Result, ext::IdentExt};

use crate::{
    output::{Kind, Output},
    parts::{Item, Options, sdk},
};

pub(crate) fn expand(options: &Options, item: &Item, body: &Block) -> Result<TokenStream> {
    let sdk = sdk();
    let output = Output::of(&item.signature.output, options.stream, &sdk)?;
    if let (Kind::Items { .. }, Some(word)) = (&output.kind, &item.signature.asyncness) {
        let message = "a function that gives items is a plain fn: its stream is what is awaited";
        return Err(Error::new(word.span, message));
    }
    let Item { attributes, visibility, signature, .. } = item;
    let conditions = item.conditions();
    let (remote, registration) =
        (remote(options, item, &output, &sdk), register(item, &output, &sdk));
    Ok(quote! {
        #(#attributes)*
        #visibility #signature #body

        #remote

        #(#conditions)*
        const _: () = { #registration };
    })
}

/// The type of the function's name: `name::to(&cluster)`, `.call(…)`.
fn remote(options: &Options, item: &Item, output: &Output, sdk: &TokenStream) -> TokenStream {
    let (visibility, ident) = (&item.visibility, &item.signature.ident);
    let conditions = item.conditions();
    let name = options.name.clone().unwrap_or_else(|| item.name());
    let unraw = item.name();
    let (names, types) = item.arguments();
    let (value, answer) = match &output.kind {
        Kind::Value(value) => (value, quote!(#value)),
        Kind::Items { item, .. } => (item, quote!(#sdk::Items<#item>)),
    };
    let (args, error) = (quote!((#(#types,)*)), quote!(#sdk::ErrorInfo));
    let about = format!("`{unraw}` on a node.");
    let call = match &output.kind {
        Kind::Value(_) => quote!(call),
        Kind::Items { .. } => quote!(stream),
    };
    let run = match &output.kind {
        Kind::Items { .. } => quote!(),
        Kind::Value(_) => quote! {
            /// Starts it there and does not wait.
            #visibility async fn run(
                &self,
                #(#names: #types,)*
            ) -> ::core::result::Result<#sdk::Run<#value>, #error> {
                self.function.run((#(#names,)*)).await
            }
        },
    };
    quote! {
        #(#conditions)*
        #[doc = #about]
        #[allow(non_camel_case_types, dead_code)]
        #[derive(Debug, Clone)]
        #visibility struct #ident {
            function: #sdk::Function<#args, #value>,
        }

        #(#conditions)*
        impl #sdk::Native for #ident {
            type Args = #args;
            type Output = #value;
            const NAME: &'static str = #name;
            const SYMBOL: &'static str =
                ::core::concat!(::core::module_path!(), "::", #unraw);

            fn over(function: #sdk::Function<#args, #value>) -> Self {
                Self { function }
            }

            fn remote(&self) -> &#sdk::Function<#args, #value> {
                &self.function
            }
        }

        #(#conditions)*
        #[allow(dead_code, clippy::too_many_arguments)]
        impl #ident {
            /// Puts it on a cluster: sends this program, where the node lacks it.
            #visibility async fn to(
                cluster: &#sdk::Cluster,
            ) -> ::core::result::Result<Self, #error> {
                Self::deploy().to(cluster).await
            }

            /// The same with a name, a program or an env of one's choice.
            #visibility fn deploy() -> #sdk::Deploy<Self> {
                #sdk::Deploy::new()
            }

            /// Calls it there. Dropping the future cancels the call.
            #visibility async fn call(
                &self,
                #(#names: #types,)*
            ) -> ::core::result::Result<#answer, #error> {
                self.function.#call((#(#names,)*)).await
            }

            #run

            /// The function there, for all else that can be done with it.
            #visibility fn remote(&self) -> &#sdk::Function<#args, #value> {
                &self.function
            }
        }
    }
}

/// The function's place among those that a worker serves.
fn register(item: &Item, output: &Output, sdk: &TokenStream) -> TokenStream {
    let (names, types) = item.arguments();
    let ident = &item.signature.ident;
    let (unraw, doc, signature) = (item.name(), item.doc(), shown(item));
    let worker = quote!(#sdk::worker::macros);
    let texts = names.iter().map(|name: &&Ident| name.unraw().to_string());
    let failed = quote!(.map_err(#worker::failed)?);
    let check = if output.fallible { failed.clone() } else { quote!() };
    let read = quote! {
        let (#(#names,)*) = #worker::arguments::<(#(#types,)*)>(input, &[#(#texts),*])?;
    };
    let handler = match (&output.kind, item.signature.asyncness.is_some()) {
        (Kind::Value(_), false) => quote! {
            Plain(|input, out| {
                #read
                let value = #ident(#(#names),*)#check;
                #worker::write(input.codec, value, out)
            })
        },
        (Kind::Value(_), true) => quote! {
            Async(|input| {
                #read
                let codec = input.codec;
                ::core::result::Result::Ok(::std::boxed::Box::pin(async move {
                    let value = #ident(#(#names),*).await #check;
                    let mut out = ::std::vec::Vec::new();
                    #worker::write(codec, value, &mut out).map(|()| out)
                }))
            })
        },
        (Kind::Items { fallible, in_time, .. }, _) => {
            let (kind, give) = match in_time {
                true => (quote!(Stream), quote!(stream)),
                false => (quote!(Iterator), quote!(items)),
            };
            let each = if *fallible { failed } else { quote!() };
            quote! {
                #kind(|input| {
                    #read
                    let codec = input.codec;
                    let items = #ident(#(#names),*)#check;
                    ::core::result::Result::Ok(#worker::#give(items, move |item, out| {
                        let item = item #each;
                        #worker::write(codec, item, out)
                    }))
                })
            }
        }
    };
    quote! {
        #worker::inventory::submit! {
            #worker::Registered {
                symbol: ::core::concat!(::core::module_path!(), "::", #unraw),
                signature: #signature,
                doc: #doc,
                handler: #worker::Handler::#handler,
            }
        }
    }
}

/// `(x: u64) -> u64`, for people.
fn shown(item: &Item) -> String {
    let (inputs, output) = (&item.signature.inputs, &item.signature.output);
    let mut text = quote!((#inputs) #output).to_string();
    let spaces = [
        (" :: ", "::"),
        (" : ", ": "),
        (" < ", "<"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("( ", "("),
        (" )", ")"),
        (",)", ")"),
        ("& ", "&"),
        ("- >", "->"),
    ];
    for (loose, tight) in spaces {
        text = text.replace(loose, tight);
    }
    text.replace("->", " -> ").replace("  ", " ").trim().to_owned()
}
