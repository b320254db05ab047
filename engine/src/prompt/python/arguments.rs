//! Arguments by place or by name, as Python binds them.

use minijinja::value::{ArgType, Kwargs, Rest, from_args};
use minijinja::{Error, ErrorKind, Value};

/// The arguments of a method, bound to its parameters; one that is not given, or given as None, is `None`.
pub(super) struct Arguments<const N: usize>([Option<Value>; N]);

impl<const N: usize> Arguments<N> {
    /// Binds `arguments` to parameters by `names`, of which the first `required` must be given.
    ///
    /// # Errors
    /// When there are too many, too few, or one has another name.
    pub fn bind(arguments: &[Value], names: [&str; N], required: usize) -> Result<Self, Error> {
        let (places, by_name): (Rest<Value>, Kwargs) = from_args(arguments)?;
        if places.len() > N {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        let mut bound: [Option<Value>; N] = std::array::from_fn(|index| places.get(index).cloned());
        for (slot, name) in bound.iter_mut().zip(names).skip(places.len()) {
            *slot = by_name.get(name)?;
        }
        by_name.assert_all_used()?;
        if bound.iter().take(required).any(Option::is_none) {
            return Err(Error::from(ErrorKind::MissingArgument));
        }
        Ok(Self(bound.map(|value| value.filter(|value| !value.is_none()))))
    }

    /// The argument at `index`; `None` when it is not given.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn get<T>(&self, index: usize) -> Result<Option<T>, Error>
    where
        T: for<'a> ArgType<'a, Output = T>,
    {
        self.0.get(index).and_then(Option::as_ref).map(|value| T::from_value(Some(value))).transpose()
    }

    /// The argument at `index`.
    ///
    /// # Errors
    /// When it is not given, or of another type.
    pub fn require<T>(&self, index: usize) -> Result<T, Error>
    where
        T: for<'a> ArgType<'a, Output = T>,
    {
        self.get(index)?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))
    }
}
