//! Arguments as they travel: a tuple, written as a list.

use serde::Serialize;

/// A tuple of up to twelve things that serde writes.
pub trait Args: Send {
    /// The form that is written.
    type Packed<'a>: Serialize + Sync
    where
        Self: 'a;

    /// Gives that form.
    fn packed(&self) -> Self::Packed<'_>;
}

impl Args for () {
    /// A unit would be written as nil.
    type Packed<'a> = [(); 0];

    fn packed(&self) -> [(); 0] {
        []
    }
}

macro_rules! args {
    ($($name:ident)+) => {
        impl<$($name: Serialize + Send + Sync),+> Args for ($($name,)+) {
            type Packed<'a> = &'a Self where Self: 'a;

            fn packed(&self) -> &Self {
                self
            }
        }
    };
}

args!(A);
args!(A B);
args!(A B C);
args!(A B C D);
args!(A B C D E);
args!(A B C D E F);
args!(A B C D E F G);
args!(A B C D E F G H);
args!(A B C D E F G H I);
args!(A B C D E F G H I J);
args!(A B C D E F G H I J K);
args!(A B C D E F G H I J K L);
