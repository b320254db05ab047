//! Ranks with a GPU each: NCCL, loaded when it is asked for. Not run on a GPU yet.
#![allow(unsafe_code, reason = "NCCL is a C library")]

use std::ffi::{c_char, c_int, c_void};

use libloading::Library;
use paddock_engine::Result;

use super::device::{Buffer, Device};
use super::driver::{Driver, Slice};
use super::formats::Dtype;
use super::{Cuda, launch};
use crate::distributed::{Collective, Place, Tcp, shard_len};

/// NCCL's library, by the names that it is installed under. cudarc's own search leaves out the first.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];

/// `ncclUniqueId`.
type UniqueId = [c_char; 128];
/// `ncclComm_t`.
type Communicator = *mut c_void;
/// `ncclResult_t`; 0 is success.
type Code = c_int;
/// `ncclDataType_t` of bytes, f32 and bf16.
const UINT8: c_int = 1;
const FLOAT32: c_int = 7;
const BFLOAT16: c_int = 9;
/// `ncclSum`.
const SUM: c_int = 0;

/// What is called of NCCL (nccl.h of version 2).
struct Functions {
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> Code,
    init_rank: unsafe extern "C" fn(*mut Communicator, c_int, UniqueIdByValue, c_int) -> Code,
    all_gather: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Communicator, *mut c_void) -> Code,
    reduce_scatter:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Communicator, *mut c_void) -> Code,
    destroy: unsafe extern "C" fn(Communicator) -> Code,
    /// Last, as the functions are its.
    _library: Library,
}

/// As C passes it: the whole structure.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueIdByValue {
    internal: UniqueId,
}

impl Functions {
    fn load(device: &Device) -> Result<Self> {
        let missing = || {
            device.error("NCCL is needed to train on several GPUs: libnccl.so.2 cannot be loaded; install it, or name its folder in LD_LIBRARY_PATH")
        };
        // SAFETY: NCCL does nothing but define its functions when it is loaded.
        let library = NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok()).ok_or_else(missing)?;
        // SAFETY: names and signatures are those of nccl.h; the functions are used while the library is held.
        unsafe {
            Ok(Self {
                get_unique_id: *library.get(b"ncclGetUniqueId\0").map_err(|_| missing())?,
                init_rank: *library.get(b"ncclCommInitRank\0").map_err(|_| missing())?,
                all_gather: *library.get(b"ncclAllGather\0").map_err(|_| missing())?,
                reduce_scatter: *library.get(b"ncclReduceScatter\0").map_err(|_| missing())?,
                destroy: *library.get(b"ncclCommDestroy\0").map_err(|_| missing())?,
                _library: library,
            })
        }
    }
}

/// One of the ranks. Numbers and NCCL's identifier go by TCP; parameters from GPU to GPU, in the order of the stream.
pub struct Nccl {
    control: Tcp,
    device: Device,
    functions: Functions,
    communicator: Communicator,
}

impl Nccl {
    /// Joins the other ranks; each brings an opened GPU of its own.
    ///
    /// # Errors
    /// When NCCL is missing or refuses, or the ranks do not come together.
    pub fn join(place: &Place, device: &Device) -> Result<Self> {
        let functions = Functions::load(device)?;
        let control = Tcp::join(place)?;
        let mut id: UniqueId = [0; 128];
        if place.rank == 0 {
            // SAFETY: `id` has the size that NCCL fills.
            check(device, "making an identifier", unsafe { (functions.get_unique_id)(&raw mut id) })?;
        }
        // Every rank brings one; rank 0's counts.
        let all = control.exchange(&id.map(|byte| byte as u8))?;
        id.iter_mut().zip(all).for_each(|(byte, of_first)| *byte = of_first as c_char);
        let mut communicator = std::ptr::null_mut();
        let id = UniqueIdByValue { internal: id };
        let (rank, world_size) = (place.rank as c_int, place.world_size as c_int);
        // SAFETY: the device's context is current on this thread; NCCL writes the communicator's handle.
        let code = unsafe { (functions.init_rank)(&raw mut communicator, world_size, id, rank) };
        check(device, "joining the ranks", code)?;
        Ok(Self { control, device: device.clone(), functions, communicator })
    }

    fn world_size(&self) -> usize {
        Collective::<Cuda<Device>>::world_size(&self.control)
    }
}

fn check(device: &Device, what: &str, code: Code) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(device.error(format!("NCCL failed at {what} (code {code}); NCCL_DEBUG=INFO makes it say why")))
}

impl Drop for Nccl {
    fn drop(&mut self) {
        let _ = self.device.synchronize();
        // SAFETY: the communicator is this value's alone, and nothing is under way.
        unsafe { (self.functions.destroy)(self.communicator) };
    }
}

fn pointer(slice: Slice<'_, Buffer>) -> *mut c_void {
    super::device::address(slice) as *mut c_void
}

impl Collective<Cuda<Device>> for Nccl {
    fn rank(&self) -> usize {
        Collective::<Cuda<Device>>::rank(&self.control)
    }

    fn world_size(&self) -> usize {
        Self::world_size(self)
    }

    fn gather(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Collective::<Cuda<Device>>::gather(&self.control, values)
    }

    fn sum(&self, values: &mut [f64]) -> Result<()> {
        Collective::<Cuda<Device>>::sum(&self.control, values)
    }

    fn all_gather(
        &self,
        backend: &Cuda<Device>,
        shard: &super::Param<Buffer>,
        whole: &mut super::Param<Buffer>,
    ) -> Result<()> {
        let bytes = shard.count() * backend.formats().values.bytes();
        // With the padding of the shards, which the whole has no room for.
        let padded = self.device.alloc(bytes * self.world_size())?;
        // SAFETY: each rank sends `bytes` bytes and has room for those of all; both buffers live on the stream.
        let code = unsafe {
            let (from, to) = (pointer(shard.at()), pointer(Slice::from(&padded)));
            (self.functions.all_gather)(from, to, bytes, UINT8, self.communicator, self.device.stream().cast())
        };
        check(&self.device, "gathering weights", code)?;
        self.device.copy(Slice::from(&padded), whole.at(), whole.count() * backend.formats().values.bytes())
    }

    fn reduce_scatter(
        &self,
        backend: &Cuda<Device>,
        whole: &super::Param<Buffer>,
        shard: &mut super::Param<Buffer>,
    ) -> Result<()> {
        let (values, gradients) = (backend.formats().values, backend.formats().gradients);
        let len = shard_len(whole.count(), self.world_size());
        let padded_bytes = len * self.world_size() * gradients.bytes();
        let padded = self.device.alloc(padded_bytes)?;
        let sums = self.device.alloc(len * gradients.bytes())?;
        let used = whole.count() * gradients.bytes();
        self.device.copy(whole.at(), Slice::from(&padded), used)?;
        self.device.clear(Slice::from(&padded).after(used), padded_bytes - used)?;
        let dtype = match gradients {
            Dtype::F32 => FLOAT32,
            Dtype::Bf16 => BFLOAT16,
        };
        // SAFETY: each rank sends `len` values for every rank and has room for its own; buffers live on the stream.
        let code = unsafe {
            let (from, to) = (pointer(Slice::from(&padded)), pointer(Slice::from(&sums)));
            let stream = self.device.stream().cast();
            (self.functions.reduce_scatter)(from, to, len, dtype, SUM, self.communicator, stream)
        };
        check(&self.device, "summing gradients up", code)?;
        let sums = Slice::from(&sums);
        if gradients == values {
            self.device.launch(&launch::add(shard.at(), shard.at(), sums, len as u64))
        } else {
            // The sums are f32 here: values in bf16 have gradients in either.
            self.device.launch(&launch::add_parts(shard.at(), sums, 1, len as u32))
        }
    }
}
