//! The methods of dictionaries and lists that change nothing; transformers' sandbox refuses the others.

use minijinja::value::{Tuple, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::arguments::Arguments;

pub(super) fn map(map: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    if method == "get" {
        let arguments = Arguments::bind(arguments, ["key", "default"], 1)?;
        let key: Value = arguments.get(0)?.unwrap_or_default();
        let found = map.get_item(&key)?;
        return Ok(if found.is_undefined() { arguments.get(1)?.unwrap_or(Value::from(())) } else { found });
    }
    let keys = || map.try_iter();
    let pair = |key: Value| Ok(Value::from(Tuple::from([key.clone(), map.get_item(&key)?])));
    let result = match method {
        "keys" => keys()?.collect(),
        "values" => keys()?.map(|key| map.get_item(&key)).collect::<Result<_, _>>()?,
        "items" => keys()?.map(pair).collect::<Result<_, Error>>()?,
        "copy" => map.clone(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    from_args::<()>(arguments)?;
    Ok(result)
}

pub(super) fn list(list: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "copy" => {
            from_args::<()>(arguments)?;
            Ok(list.clone())
        }
        "count" => {
            let item: Value = Arguments::bind(arguments, ["value"], 1)?.get(0)?.unwrap_or_default();
            Ok(Value::from(list.try_iter()?.filter(|other| *other == item).count()))
        }
        "index" => {
            let item: Value = Arguments::bind(arguments, ["value"], 1)?.get(0)?.unwrap_or_default();
            let found = list.try_iter()?.position(|other| other == item);
            found
                .map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{item} is not in the list")))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
