//! Which modules an adapter's configuration targets (PEFT `tuners/tuners_utils.py`, `check_target_module_exists`).

use fancy_regex::Regex;
use serde_json::{Map, Value};

/// Names of modules, or a pattern of their whole paths.
#[derive(Debug)]
enum Names {
    List(Vec<String>),
    Pattern(Regex),
    /// Every linear layer of the blocks.
    AllLinear,
}

/// The modules that a configuration targets.
#[derive(Debug)]
pub(super) struct Targets {
    targets: Option<Names>,
    excluded: Option<Names>,
    /// Only blocks of these numbers, where a list of names is targeted.
    layers: Vec<u64>,
    /// Patterns of the name before a block's number.
    layers_pattern: Vec<Regex>,
}

impl Targets {
    /// Reads the fields of the configuration; an error names the field.
    pub fn parse(fields: &Map<String, Value>) -> Result<Self, String> {
        let get = |name: &str| fields.get(name).unwrap_or(&Value::Null);
        let names = |name: &str| match get(name) {
            Value::Null => Ok(None),
            Value::String(all) if all == "all-linear" => Ok(Some(Names::AllLinear)),
            Value::String(pattern) => whole(pattern).map(|pattern| Some(Names::Pattern(pattern))),
            value => texts(value)
                .map(|list| Some(Names::List(list)))
                .ok_or_else(|| format!("\"{name}\": expected names or a pattern of modules, found {value}")),
        };
        let layers = match get("layers_to_transform") {
            Value::Null => Some(Vec::new()),
            Value::Array(list) => list.iter().map(Value::as_u64).collect(),
            value => value.as_u64().map(|layer| vec![layer]),
        };
        let patterns = match get("layers_pattern") {
            Value::Null => Some(Vec::new()),
            Value::String(pattern) if pattern.is_empty() => Some(Vec::new()),
            Value::String(pattern) => Some(vec![pattern.clone()]),
            value => texts(value),
        };
        let patterns = patterns.ok_or("\"layers_pattern\": expected a pattern or a list of them")?;
        let patterns = if patterns.is_empty() { vec!["[^.]*".to_string()] } else { patterns };
        Ok(Self {
            targets: names("target_modules")?,
            excluded: names("exclude_modules")?,
            layers: layers.ok_or("\"layers_to_transform\": expected numbers of blocks")?,
            layers_pattern: patterns
                .iter()
                .map(|pattern| compiled(&format!(r"^.*\.{pattern}\.(\d+)\.")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether `module`, a path such as `model.layers.0.self_attn.q_proj`, has an adapter.
    pub fn contains(&self, module: &str) -> Result<bool, String> {
        if let Some(excluded) = &self.excluded
            && excluded.contains(module)?
        {
            return Ok(false);
        }
        let Some(targets) = &self.targets else { return Ok(false) };
        let found = targets.contains(module)?;
        let Names::List(list) = targets else { return Ok(found) };
        // As in PEFT, a whole path is meant whatever its block.
        if !found || self.layers.is_empty() || list.iter().any(|name| name == module) {
            return Ok(found);
        }
        for pattern in &self.layers_pattern {
            let number = pattern.captures(module).map_err(|error| error.to_string())?;
            if let Some(number) = number.and_then(|captures| captures.get(1)?.as_str().parse().ok()) {
                return Ok(self.layers.contains(&number));
            }
        }
        Ok(false)
    }
}

impl Names {
    fn contains(&self, module: &str) -> Result<bool, String> {
        Ok(match self {
            Self::List(list) => list.iter().any(|name| {
                module == name || module.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }),
            Self::Pattern(pattern) => pattern.is_match(module).map_err(|error| error.to_string())?,
            Self::AllLinear => module.contains("layers."),
        })
    }
}

/// Whether a pattern of ranks or scales means `module`: it matches the path or its end after a dot
/// (`tuners/tuners_utils.py`, `get_pattern_key`).
pub(super) fn matches_pattern(pattern: &str, module: &str) -> Result<bool, String> {
    compiled(&format!(r"^(.*\.)?({pattern})$"))?.is_match(module).map_err(|error| error.to_string())
}

fn whole(pattern: &str) -> Result<Regex, String> {
    compiled(&format!("^(?:{pattern})$"))
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("\"{pattern}\" is no pattern: {error}"))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of two blocks with q, v and down, and lm_head, those that the configuration targets.
    fn targeted(config: Value) -> Vec<String> {
        let targets = Targets::parse(config.as_object().unwrap()).unwrap();
        let modules = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"];
        let blocks = (0..2).flat_map(|layer| modules.map(|module| format!("model.layers.{layer}.{module}")));
        let all = blocks.chain(["lm_head".to_string(), "model.embed_tokens".to_string()]);
        let short = |module: &str| module.replace("model.layers.", "").replace("self_attn.", "").replace("mlp.", "");
        all.filter(|module| targets.contains(module).unwrap()).map(|module| short(&module)).collect()
    }

    #[test]
    fn modules_are_targeted_as_by_peft() {
        for (config, expected) in [
            (json!({ "target_modules": ["q_proj"] }), &["0.q_proj", "1.q_proj"][..]),
            (json!({ "target_modules": ["proj"] }), &[]),
            (
                json!({ "target_modules": r".*\.(q_proj|down_proj)" }),
                &["0.q_proj", "0.down_proj", "1.q_proj", "1.down_proj"],
            ),
            (json!({ "target_modules": "q_proj" }), &[]),
            (
                json!({ "target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"], "layers_to_transform": [1] }),
                &["0.q_proj", "1.v_proj"],
            ),
            (json!({ "target_modules": ["v_proj", "q_proj"], "layers_to_transform": 0 }), &["0.q_proj", "0.v_proj"]),
            (
                json!({ "target_modules": ["v_proj"], "layers_to_transform": [0], "layers_pattern": "layers" }),
                &["0.v_proj"],
            ),
            (
                json!({ "target_modules": ["v_proj"], "layers_to_transform": [0], "layers_pattern": ["h", "blocks"] }),
                &[],
            ),
            (json!({ "target_modules": ["q_proj"], "exclude_modules": r".*layers\.0\..*" }), &["1.q_proj"]),
            (
                json!({ "target_modules": "all-linear", "exclude_modules": ["down_proj"] }),
                &["0.q_proj", "0.v_proj", "1.q_proj", "1.v_proj"],
            ),
            (json!({ "target_modules": ["lm_head", "embed_tokens"] }), &["lm_head", "model.embed_tokens"]),
            (json!({ "target_modules": r"(?!.*layers\.1).*\.v_proj" }), &["0.v_proj"]),
            (json!({}), &[]),
        ] {
            assert_eq!(targeted(config.clone()), expected, "{config}");
        }
    }
}
