//! The CUDA kernels on the processor: compiled by the system's C++ compiler, run by a process of their own. It shows
//! what the kernels and the backend compute, with memory that ends at a forbidden page and begins as NaN. It is an
//! emulation and says nothing about a GPU.

use std::cell::RefCell;
use std::fs;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use paddock::cuda::launch::{Argument, Launch};
use paddock::cuda::source::{Dialect, kernels, program};
use paddock::cuda::{Driver, Formats, Operands, Product, Slice};
use paddock_engine::backend::{DeviceInfo, DeviceKind};
use paddock_engine::{Error, Result};
use tempfile::TempDir;

const HOST: &str = include_str!("emulator/cuda_host.h");
const SERVER: &str = include_str!("emulator/server.h");
const BINARY: &str = "device";

/// An emulated device. Cloning clones the handle.
#[derive(Clone)]
pub struct Emulator(Rc<Inner>);

struct Inner {
    formats: Formats,
    process: RefCell<Process>,
}

struct Process {
    child: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The program's folder.
    _folder: Arc<TempDir>,
}

/// Memory of the emulated device.
pub struct Buffer {
    emulator: Emulator,
    address: u64,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A device that has failed has nothing left to free.
        let _ = self.emulator.request(&[1, self.address], &[]);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The C++ compiler: what `CXX` names, else the first that is there.
pub fn compiler() -> Option<PathBuf> {
    let named = std::env::var_os("CXX").filter(|name| !name.is_empty());
    named.into_iter().chain(["c++", "g++", "clang++"].map(Into::into)).find_map(xtask::process::find)
}

/// The program in a folder of its own.
fn compile(compiler: &Path, formats: Formats) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let source = folder.path().join("device.cpp");
    let entries: Vec<String> = kernels(formats).iter().map(|name| format!("ENTRY({name})")).collect();
    let text = format!(
        "{HOST}\n{}\n{SERVER}\nint main() {{\n    static const Kernel list[] = {{{}}};\n    \
         return serve(list, {});\n}}\n",
        program(formats, Dialect::Host),
        entries.join(", "),
        entries.len()
    );
    fs::write(&source, text).expect("a writable folder");
    // -ffp-contract=off: the same roundings everywhere.
    let output = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-o"])
        .arg(folder.path().join(BINARY))
        .arg(&source)
        .output()
        .expect("a compiler that starts");
    assert!(output.status.success(), "the kernels do not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    folder
}

impl Emulator {
    /// A device with the program for `formats`, which is compiled once. `backwards` lets the threads of a block run in
    /// the opposite order: a kernel that forgets to wait then reads what is not there yet.
    ///
    /// # Panics
    /// When the program does not compile or start.
    pub fn new(compiler: &Path, formats: Formats, backwards: bool) -> Self {
        static COMPILED: Mutex<Vec<(Formats, Arc<TempDir>)>> = Mutex::new(Vec::new());
        let folder = {
            let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
            let known = compiled.iter().find(|(known, _)| *known == formats).map(|(_, folder)| folder.clone());
            known.unwrap_or_else(|| {
                let folder = Arc::new(compile(compiler, formats));
                compiled.push((formats, folder.clone()));
                folder
            })
        };
        let binary = folder.path().join(BINARY);
        let mut child =
            Command::new(&binary).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the device starts");
        let requests = BufWriter::with_capacity(1 << 16, child.stdin.take().expect("a pipe"));
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let process = RefCell::new(Process { child, requests, answers, _folder: folder });
        let emulator = Self(Rc::new(Inner { formats, process }));
        emulator.request(&[8, backwards.into()], &[]).expect("the device takes a request");
        emulator
    }

    fn request(&self, numbers: &[u64], bytes: &[u8]) -> Result<()> {
        let process = &mut *self.0.process.borrow_mut();
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        process.requests.write_all(&numbers).and_then(|()| process.requests.write_all(bytes)).map_err(gone)
    }

    fn answer(&self, bytes: &mut [u8]) -> Result<()> {
        let process = &mut *self.0.process.borrow_mut();
        process.requests.flush().and_then(|()| process.answers.read_exact(bytes)).map_err(gone)
    }
}

/// What was wrong is on stderr.
fn gone(error: std::io::Error) -> Error {
    Error::Device { device: "the emulated device".into(), problem: format!("it has stopped ({error})") }
}

fn address(slice: Slice<'_, Buffer>) -> u64 {
    slice.buffer.address + slice.offset as u64
}

impl Driver for Emulator {
    type Buffer = Buffer;

    fn info(&self) -> DeviceInfo {
        DeviceInfo { name: "emulated CUDA device".into(), kind: DeviceKind::SoftwareGpu }
    }

    fn formats(&self) -> Formats {
        self.0.formats
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.request(&[0, bytes as u64], &[])?;
        let mut address = [0; 8];
        self.answer(&mut address)?;
        Ok(Buffer { emulator: self.clone(), address: u64::from_ne_bytes(address) })
    }

    fn write(&self, to: Slice<'_, Buffer>, bytes: &[u8]) -> Result<()> {
        self.request(&[2, address(to), bytes.len() as u64], bytes)
    }

    fn read(&self, from: Slice<'_, Buffer>, bytes: &mut [u8]) -> Result<()> {
        self.request(&[3, address(from), bytes.len() as u64], &[])?;
        self.answer(bytes)
    }

    fn clear(&self, at: Slice<'_, Buffer>, bytes: usize) -> Result<()> {
        self.request(&[4, address(at), bytes as u64], &[])
    }

    fn copy(&self, from: Slice<'_, Buffer>, to: Slice<'_, Buffer>, bytes: usize) -> Result<()> {
        self.request(&[5, address(from), address(to), bytes as u64], &[])
    }

    fn launch(&self, launch: &Launch<'_, Buffer>) -> Result<()> {
        let mut bytes = launch.kernel.as_bytes().to_vec();
        let mut number = |number: u64| bytes.extend(number.to_ne_bytes());
        launch.grid.iter().chain(&launch.threads).for_each(|size| number((*size).into()));
        number(launch.shared.into());
        number(launch.arguments.len() as u64);
        for argument in &launch.arguments {
            let (kind, bits) = match argument {
                Argument::Pointer(slice) => (0, slice.map_or(0, address)),
                Argument::U32(value) => (1, (*value).into()),
                Argument::U64(value) => (2, *value),
                Argument::F32(value) => (3, value.to_bits().into()),
            };
            number(kind);
            number(bits);
        }
        self.request(&[6, launch.kernel.len() as u64], &bytes)
    }

    fn multiply(&self, product: &Product, operands: Operands<'_, Buffer>) -> Result<()> {
        let Product { m, n, k, input, output, a, b, out_stride } = *product;
        let sizes = [m, n, k, a.transposed.into(), a.stride, b.transposed.into(), b.stride, out_stride];
        let formats = [input.bytes(), output.bytes()];
        let mut numbers = vec![7];
        numbers.extend(sizes.iter().chain(&formats).map(|size| *size as u64));
        numbers.extend([address(operands.a), address(operands.b)]);
        numbers.extend([operands.add.map_or(0, address), address(operands.out)]);
        self.request(&numbers, &[])
    }
}
