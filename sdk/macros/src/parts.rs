//! What the attribute is put on, and its options.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Block, Error, Expr, FnArg, Ident, Lit, LitStr, Meta, Pat, PatType, Result,
    Signature, Token, Type, Visibility,
    ext::IdentExt,
    parse::{Parse, ParseStream, Parser},
    spanned::Spanned,
};

/// Arguments of one function.
const MAX_ARGUMENTS: usize = 12;

/// What is in the attribute's parentheses.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<String>,
    pub(crate) stream: bool,
}

impl Options {
    pub(crate) fn parse(options: TokenStream) -> Result<Self> {
        let mut found = Self::default();
        let parser = syn::meta::parser(|option| {
            if option.path.is_ident("name") {
                found.name = Some(option.value()?.parse::<LitStr>()?.value());
            } else if option.path.is_ident("stream") {
                found.stream = true;
            } else {
                return Err(option.error("the options are name = \"…\" and stream"));
            }
            Ok(())
        });
        parser.parse2(options)?;
        Ok(found)
    }
}

/// A function, with a body or without.
pub(crate) struct Item {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Option<Block>,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let (visibility, signature) = (input.parse()?, input.parse()?);
        let body = if input.peek(Token![;]) {
            input.parse::<Token![;]>()?;
            None
        } else {
            Some(input.parse()?)
        };
        Ok(Self { attributes, visibility, signature, body })
    }
}

impl Item {
    /// Refuses what can't be called from afar.
    pub(crate) fn check(&self) -> Result<()> {
        let signature = &self.signature;
        if !signature.generics.params.is_empty() {
            let message = "a remote function has no generics: messages have concrete types";
            return Err(Error::new(signature.generics.span(), message));
        }
        if let Some(word) = &signature.unsafety {
            return Err(Error::new(word.span, "a remote function is not unsafe"));
        }
        if signature.inputs.len() > MAX_ARGUMENTS {
            let message = "a remote function has at most twelve arguments: put them into a struct";
            return Err(Error::new(signature.inputs.span(), message));
        }
        signature.inputs.iter().try_for_each(|input| argument(input).map(drop))
    }

    /// What it is called, and in the realm if no option says otherwise.
    pub(crate) fn name(&self) -> String {
        self.signature.ident.unraw().to_string()
    }

    /// Names and types of its arguments.
    pub(crate) fn arguments(&self) -> (Vec<&Ident>, Vec<&Type>) {
        self.signature.inputs.iter().filter_map(|input| argument(input).ok()).unzip()
    }

    /// Its doc comment.
    pub(crate) fn doc(&self) -> String {
        let lines = self.attributes.iter().filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(text) => match &text.lit {
                    Lit::Str(text) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Its conditions of compilation, which hold for all that is made of it.
    pub(crate) fn conditions(&self) -> Vec<&Attribute> {
        self.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }
}

fn argument(input: &FnArg) -> Result<(&Ident, &Type)> {
    let PatType { pat, ty, .. } = match input {
        FnArg::Typed(typed) => typed,
        FnArg::Receiver(receiver) => {
            return Err(Error::new(receiver.span(), "a remote function has no self"));
        }
    };
    let name = match &**pat {
        Pat::Ident(pattern) => &pattern.ident,
        other => {
            return Err(Error::new(other.span(), "an argument of a remote function is a name"));
        }
    };
    match &**ty {
        Type::Reference(reference) => {
            let message = "an argument travels, so it is owned: String for &str, Vec<T> for &[T]";
            Err(Error::new(reference.span(), message))
        }
        Type::ImplTrait(any) => {
            Err(Error::new(any.span(), "an argument of a remote function has one type"))
        }
        ty => Ok((name, ty)),
    }
}

/// The path of the SDK in the crate that uses the attribute, whatever it is called there.
pub(crate) fn sdk() -> TokenStream {
    use proc_macro_crate::{FoundCrate, crate_name};
    match crate_name("rhd-sdk") {
        Ok(FoundCrate::Name(name)) => {
            let name = Ident::new(&name, proc_macro2::Span::call_site());
            quote!(::#name)
        }
        Ok(FoundCrate::Itself) | Err(_) => quote!(::rhd_sdk),
    }
}
