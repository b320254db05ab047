//! The kernels of the CPU backend: the loops that prefill and decoding spend their time in. Each gets slices and gives
//! numbers; what operands an operation takes, how its work is divided among threads and what its errors say is in the
//! engine's `backend/cpu/<op>.rs`, which calls the kernel of the same name here.
//!
//! They are a crate because a compiler's options are those of a crate: in the page all else is compiled to be small, and
//! this to be fast. A generic function is compiled in the crate that names its types, and an inlined one as its caller is,
//! so what the engine calls here is neither generic nor inlined.

mod add;
mod attention;
mod encoding;
mod exp;
mod lanes;
mod layer_norm;
mod linear;
mod output;
mod packed;
mod packing;
mod plane;
mod rms_norm;
mod rope;
mod scales;
mod silu_mul;
mod token_logprobs;

pub use add::add;
pub use attention::{Attend, Strided, attention};
pub use encoding::Encoding;
pub use exp::exp;
pub use lanes::Simd;
pub use layer_norm::layer_norm;
pub use linear::{ROWS_TOGETHER, linear};
pub use output::Output;
pub use packed::PackedRows;
pub use packing::GROUP;
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use silu_mul::silu_mul;
pub use token_logprobs::log_sum_exp;
