//! What a function gives back, as far as its signature says.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Error, GenericArgument, Path, PathArguments, Result, ReturnType, Type, TypeParamBound,
    spanned::Spanned,
};

/// What a function returns.
pub(crate) struct Output {
    pub(crate) kind: Kind,
    /// Whether that comes in a `Result`.
    pub(crate) fallible: bool,
}

/// A value, or several of them.
pub(crate) enum Kind {
    Value(TokenStream),
    Items {
        item: TokenStream,
        /// Whether each comes in a `Result`.
        fallible: bool,
        /// A stream rather than an iterator.
        in_time: bool,
    },
}

impl Output {
    pub(crate) fn of(output: &ReturnType, stream: bool, sdk: &TokenStream) -> Result<Self> {
        let ReturnType::Type(_, ty) = output else {
            return Ok(Self { kind: Kind::Value(quote!(())), fallible: false });
        };
        match ok_of(ty) {
            Some(ty) => Ok(Self { kind: Kind::of(ty, stream, sdk)?, fallible: true }),
            None => Ok(Self { kind: Kind::of(ty, stream, sdk)?, fallible: false }),
        }
    }
}

impl Kind {
    fn of(ty: &Type, stream: bool, sdk: &TokenStream) -> Result<Self> {
        if let Type::ImplTrait(any) = ty {
            let bounds = any.bounds.iter().filter_map(|bound| match bound {
                TypeParamBound::Trait(bound) => Some(&bound.path),
                _ => None,
            });
            for path in bounds {
                if let Some((item, in_time)) = item_of(path) {
                    return Ok(Self::items(item, in_time));
                }
            }
            let message = "a result travels, so it has one type, or is impl Iterator<Item = T> or \
                           impl Stream<Item = T>";
            return Err(Error::new(any.span(), message));
        }
        if !stream {
            return Ok(Self::Value(quote!(#ty)));
        }
        let in_time = match ty {
            Type::Path(path) => path.path.segments.iter().any(|segment| {
                let name = segment.ident.to_string();
                name == "Pin" || name.ends_with("Stream")
            }),
            _ => false,
        };
        let item = match in_time {
            true => quote!(<#ty as #sdk::worker::macros::futures::Stream>::Item),
            false => quote!(<#ty as ::core::iter::IntoIterator>::Item),
        };
        Ok(Self::Items { item, fallible: false, in_time })
    }

    fn items(item: &Type, in_time: bool) -> Self {
        match ok_of(item) {
            Some(ok) => Self::Items { item: quote!(#ok), fallible: true, in_time },
            None => Self::Items { item: quote!(#item), fallible: false, in_time },
        }
    }
}

/// `T` of a `Result<T, …>`, whichever crate's.
fn ok_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// `T` of `Iterator<Item = T>` or `Stream<Item = T>`, and whether it is the latter.
fn item_of(path: &Path) -> Option<(&Type, bool)> {
    let last = path.segments.last()?;
    let name = last.ident.to_string();
    if !name.ends_with("Iterator") && name != "Stream" {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => {
            Some((&item.ty, name == "Stream"))
        }
        _ => None,
    })
}
