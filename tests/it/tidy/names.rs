//! An operation has one name: trait method, file of the CPU, shader, kernel.

use std::collections::BTreeSet;

use super::sources::File;

/// Where the traits stand whose methods are operations.
const TRAITS: [&str; 2] = ["engine/src/backend/", "learn/src/"];
const CPU: &str = "engine/src/backend/cpu/";
const SHADERS: &str = "shaders/";
const KERNELS: &str = "native-trainer/src/cuda/kernels/";

/// Kernels with several operations of one shape in a file, or with a variant of one.
const GATHERED: [&str; 2] = ["adamw8", "elementwise"];

/// A method of a public trait.
#[derive(Debug, PartialEq, Eq)]
struct Method {
    name: String,
    /// Whether implementations may leave it out.
    has_default: bool,
    /// What it takes and gives.
    signature: String,
}

impl Method {
    /// Whether a device computes in it: it takes activations, a cache or a sampler, gives something back or changes
    /// what it takes, and is neither reading nor asking for a shape.
    fn computes(&self) -> bool {
        let (arguments, result) = self.signature.rsplit_once("->").unwrap_or((&self.signature, ""));
        let takes = ["&Self::Tensor", "&Self::Tokens", "Self::KvCache", "Self::Sampler"];
        let gives = ["Self::Tensor", "Self::Tokens", "Result<()>"];
        takes.iter().any(|kind| arguments.contains(kind)) && gives.iter().any(|kind| result.contains(kind))
    }
}

/// The methods of all public traits in `text`, which rustfmt has formatted.
fn methods(text: &str) -> Vec<Method> {
    let mut methods = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("pub trait ") || line.ends_with("{}") {
            continue;
        }
        for line in lines.by_ref().take_while(|line| *line != "}") {
            let Some(rest) = line.strip_prefix("    ") else { continue };
            if let Some(rest) = rest.strip_prefix("async fn ").or_else(|| rest.strip_prefix("fn ")) {
                let name = rest.split(['(', '<']).next().unwrap_or_default().to_string();
                methods.push(Method { name, has_default: rest.ends_with('{'), signature: rest.to_string() });
            } else if let Some(method) = methods.last_mut()
                && !method.signature.ends_with([';', '{'])
                && !rest.trim_start().starts_with("//")
            {
                method.signature.push_str(rest);
                method.has_default = rest.ends_with('{');
            }
        }
    }
    methods
}

/// Whether `name` is `op`, or one of the two is a variant of the other: `linear` and `linear_tiled`.
fn is_kin(name: &str, op: &str) -> bool {
    let variant =
        |of: &str, name: &str| name.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    variant(name, op) || variant(op, name)
}

/// The stems of the files with this extension that lie in `folder` itself.
fn stems<'a>(files: &'a [File], folder: &str, extension: &str) -> BTreeSet<&'a str> {
    let inside = |file: &&File| {
        let name = file.path.strip_prefix(folder).and_then(|rest| rest.strip_suffix(extension));
        name.is_some_and(|name| !name.contains('/'))
    };
    files.iter().filter(inside).map(File::stem).collect()
}

/// Every way in which a name breaks the rule.
pub fn broken(files: &[File]) -> Vec<String> {
    let (cpu, shaders, kernels) =
        (stems(files, CPU, ".rs"), stems(files, SHADERS, ".wgsl"), stems(files, KERNELS, ".cu"));
    let sources = |folder: &'static str| files.iter().filter(move |file| file.is_rust_in(folder));
    let all: Vec<Method> = TRAITS.into_iter().flat_map(sources).flat_map(|file| methods(&file.text)).collect();
    let backend: Vec<Method> = sources(TRAITS[0])
        .filter(|file| !file.path[TRAITS[0].len()..].contains('/'))
        .flat_map(|file| methods(&file.text))
        .collect();
    let mut broken = Vec::new();
    if backend.is_empty() {
        broken.push(format!("{} has no trait", TRAITS[0]));
    }
    let foreign = |names: &BTreeSet<&str>, methods: &[Method], kind: &str| -> Vec<String> {
        let known = |name: &str| methods.iter().any(|method| is_kin(name, &method.name)) || GATHERED.contains(&name);
        names.iter().filter(|name| !known(name)).map(|name| format!("{kind} {name} serves no operation")).collect()
    };
    broken.extend(foreign(&shaders, &backend, "shader"));
    broken.extend(foreign(&kernels, &all, "kernel"));
    for op in backend.iter().filter(|method| method.computes() && !method.has_default) {
        // The cache has one file on the CPU, whatever is done to it.
        let is_cpu = cpu.iter().any(|name| is_kin(name, &op.name))
            || (op.signature.contains("&mut Self::KvCache") && cpu.contains("kv_cache"))
            || (op.signature.contains("&mut Self::Sampler") && cpu.contains("sample"));
        if !is_cpu {
            broken.push(format!("operation {} has no file in {CPU}", op.name));
        }
        if !shaders.iter().any(|name| is_kin(name, &op.name)) {
            broken.push(format!("operation {} has no shader", op.name));
        }
    }
    broken
}

#[test]
fn methods_are_read_with_their_signatures() {
    let text = "pub trait Device {\n    /// Doc.\n    fn read(&self, x: &Self::Tensor) -> Result<Vec<f32>>;\n\n    \
                fn rows(&self) -> usize {\n        64\n    }\n}\n\npub trait Operations: Device {\n    fn linear(\n        \
                &self,\n        x: &Self::Tensor,\n    ) -> Result<Self::Tensor>;\n}\nimpl X {\n    fn other(&self);\n}\n";
    let methods = methods(text);
    let names: Vec<(&str, bool, bool)> =
        methods.iter().map(|method| (method.name.as_str(), method.has_default, method.computes())).collect();
    assert_eq!(names, [("read", false, false), ("rows", true, false), ("linear", false, true)]);
}

#[test]
fn a_name_that_stands_alone_is_seen() {
    let traits = "pub trait Operations {\n    fn linear(&self, x: &Self::Tensor) -> Result<Self::Tensor>;\n    \
                  fn relu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;\n}\n";
    let adjoint = "pub trait Adjoint {\n    fn bias_adjoint(&self, x: &Self::Tensor) -> Result<()>;\n}\n";
    let mut files = vec![
        File::new("engine/src/backend/ops.rs", traits),
        File::new("learn/src/adjoint.rs", adjoint),
        File::new("engine/src/backend/cpu/linear.rs", ""),
        File::new("engine/src/backend/cpu/relu.rs", ""),
        File::new("shaders/linear_tiled.wgsl", ""),
        File::new("shaders/relu.wgsl", ""),
        File::new("shaders/shared/noise.wgsl", ""),
        File::new("native-trainer/src/cuda/kernels/bias.cu", ""),
    ];
    assert_eq!(broken(&files), [""; 0]);
    files.push(File::new("shaders/rectify.wgsl", ""));
    files.push(File::new("native-trainer/src/cuda/kernels/gate.cu", ""));
    assert_eq!(broken(&files), ["shader rectify serves no operation", "kernel gate serves no operation"]);
    files.truncate(8);
    files.retain(|file| !file.path.contains("/cpu/relu") && !file.path.contains("/linear_tiled"));
    assert_eq!(
        broken(&files),
        ["operation linear has no shader", "operation relu has no file in engine/src/backend/cpu/"]
    );
}
