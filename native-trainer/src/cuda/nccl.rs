//! Ranks with a GPU each: NCCL, loaded when it is asked for. Not run on a GPU yet.
#![allow(unsafe_code, reason = "NCCL is a C library")]

use std::ffi::{c_char, c_int, c_void};

use cudarc::driver::result::{event, stream};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags, CUstream};
use libloading::Library;
use paddock_engine::Result;

use super::device::{Buffer, Device};
use super::driver::{Driver, Slice};
use super::formats::Dtype;
use super::{Cuda, Gradient, Weight, launch};
use crate::ranks::{HostRanks, Identity, RankAddress, Tcp, Watch};
use paddock_learn::collective::{Collective, Exchange, PendingGather, PendingSum, shard_len};

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

/// One of the ranks. Numbers and NCCL's identifier go by TCP; parameters from GPU to GPU, on a stream of
/// their own.
pub struct Nccl {
    control: Tcp,
    device: Device,
    functions: Functions,
    communicator: Communicator,
    /// Of the ranks' transfers, so that they run beside the device's work.
    stream: CUstream,
}

impl Nccl {
    /// Joins the other ranks; each brings an opened GPU of its own.
    ///
    /// # Errors
    /// When NCCL is missing or refuses, or the ranks do not come together.
    pub fn join(place: &RankAddress, identity: &Identity, watch: Watch, device: &Device) -> Result<Self> {
        let functions = Functions::load(device)?;
        let control = Tcp::join(place, identity, watch)?;
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
        let stream = stream::create(stream::StreamKind::NonBlocking)
            .map_err(|error| device.failed("making a stream for the ranks", error))?;
        Ok(Self { control, device: device.clone(), functions, communicator, stream })
    }

    fn world_size(&self) -> usize {
        self.control.world_size()
    }

    /// Starts `work` on the ranks' stream, after all that the device was asked for until now, and beside what follows.
    fn beside(&self, what: &str, work: impl FnOnce(*mut c_void) -> Code) -> Result<Transfer> {
        let failed = |error| self.device.failed(what, error);
        let new_event = || event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(failed);
        let (ready, done) = (new_event()?, new_event()?);
        let transfer = Transfer { device: self.device.clone(), done };
        // SAFETY: both streams and events are alive; the driver keeps `ready` until nothing waits for it.
        unsafe {
            let asked = event::record(ready, self.device.stream())
                .and_then(|()| stream::wait_event(self.stream, ready, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT));
            let _ = event::destroy(ready);
            asked.map_err(failed)?;
        }
        check(&self.device, what, work(self.stream.cast()))?;
        // SAFETY: as above.
        unsafe { event::record(done, self.stream) }.map_err(failed)?;
        Ok(transfer)
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
        // SAFETY: stream and communicator are this value's alone, and nothing is under way.
        unsafe {
            let _ = stream::synchronize(self.stream);
            (self.functions.destroy)(self.communicator);
            let _ = stream::destroy(self.stream);
        }
    }
}

fn pointer(slice: Slice<'_, Buffer>) -> *mut c_void {
    super::device::address(slice) as *mut c_void
}

impl Collective<Cuda<Device>> for Nccl {
    fn rank(&self) -> usize {
        self.control.rank()
    }

    fn world_size(&self) -> usize {
        Self::world_size(self)
    }

    fn gather(&self, values: Vec<f32>) -> Exchange<'_, Vec<f32>> {
        Box::pin(async move { self.control.gather_values(&values) })
    }

    fn sum<'a>(&'a self, values: &'a mut [f64]) -> Exchange<'a, ()> {
        Box::pin(async move { self.control.sum_values(values) })
    }

    fn begin_gather(&self, backend: &Cuda<Device>, shard: &Weight<Buffer>) -> Result<PendingGather<Cuda<Device>>> {
        let value_bytes = backend.formats().values.bytes();
        let bytes = shard.count() * value_bytes;
        // With the padding of the shards, which the whole has no room for.
        let padded = self.device.alloc(bytes * self.world_size())?;
        let (from, to) = (pointer(shard.at()), pointer(Slice::from(&padded)));
        let transfer = self.beside("gathering weights", |stream| {
            // SAFETY: each rank sends `bytes` bytes and has room for those of all. The room is freed after the transfer;
            // a shard is changed after all that was gathered from it was waited for or let go.
            unsafe { (self.functions.all_gather)(from, to, bytes, UINT8, self.communicator, stream) }
        })?;
        let moving = Moving { transfer, buffers: vec![padded] };
        Ok(Box::new(move |backend, whole| {
            moving.transfer.wait()?;
            moving.transfer.device.copy(moving.result()?, whole.at(), whole.count() * backend.formats().values.bytes())
        }))
    }

    fn begin_sum(&self, backend: &Cuda<Device>, whole: &Gradient<Buffer>) -> Result<PendingSum<Cuda<Device>>> {
        let gradients = backend.formats().gradients;
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
        let (from, to) = (pointer(Slice::from(&padded)), pointer(Slice::from(&sums)));
        let transfer = self.beside("summing gradients up", |stream| {
            // SAFETY: each rank sends `len` values for every rank and has room for its own. Both buffers are freed after
            // the transfer.
            unsafe { (self.functions.reduce_scatter)(from, to, len, dtype, SUM, self.communicator, stream) }
        })?;
        let moving = Moving { transfer, buffers: vec![sums, padded] };
        Ok(Box::new(move |backend, shard| {
            moving.transfer.wait()?;
            let (device, sums) = (&moving.transfer.device, moving.result()?);
            let formats = backend.formats();
            if formats.gradients == formats.values {
                device.launch(&launch::add(shard.at(), shard.at(), sums, len as u64))
            } else {
                // The sums are f32 here: values in bf16 have gradients in either.
                device.launch(&launch::add_parts(shard.at(), sums, 1, len as u32))
            }
        }))
    }
}

/// Work on the ranks' own stream.
struct Transfer {
    device: Device,
    done: CUevent,
}

impl Transfer {
    /// Lets the device's own stream wait for it; the host does not.
    fn wait(&self) -> Result<()> {
        // SAFETY: the stream lives as long as the device, and the event as long as this value.
        unsafe { stream::wait_event(self.device.stream(), self.done, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }
            .map_err(|error| self.device.failed("waiting for other GPUs", error))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // What is freed after it is freed in the order of the device's stream.
        let _ = self.wait();
        // SAFETY: the event is this value's alone; the driver keeps it until nothing waits for it.
        let _ = unsafe { event::destroy(self.done) };
    }
}

/// A transfer and the memory that it reads and writes, which is freed after it: fields are dropped in their order.
struct Moving {
    transfer: Transfer,
    /// The result first.
    buffers: Vec<Buffer>,
}

impl Moving {
    fn result(&self) -> Result<Slice<'_, Buffer>> {
        let missing = || self.transfer.device.error("a transfer has no result");
        self.buffers.first().map(Slice::from).ok_or_else(missing)
    }
}
