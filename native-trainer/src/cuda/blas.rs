//! Dense products: cuBLASLt, with an algorithm chosen once for each shape.
#![allow(unsafe_code, reason = "cuBLASLt is a C library")]

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t, cudaDataType,
};
use cudarc::driver::result::{free_async, malloc_async};
use paddock_engine::Result;

use super::device::Device;
use super::driver::{Layout, Product};
use super::formats::Dtype;

/// Memory for cuBLASLt's own use: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Plans that are kept. Ragged batches have ever new shapes.
const MOST_PLANS: usize = 4096;

/// cuBLASLt on one device.
pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    stream: cudarc::driver::sys::CUstream,
    plans: HashMap<Key, Plan>,
}

/// What a plan depends on: the product, how well each operand is aligned, and whether something is added.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    product: Product,
    alignment: [u32; 4],
    adds: bool,
}

/// A product as cuBLASLt takes it. It counts by columns, so what it computes is the transposed result, of the operands
/// in the opposite order.
struct Parts {
    description: sys::cublasLtMatmulDesc_t,
    first: sys::cublasLtMatrixLayout_t,
    second: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
}

/// A product and how it is to be made.
struct Plan {
    parts: Parts,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Drop for Parts {
    fn drop(&mut self) {
        // SAFETY: all four were made by `Parts::new` and are given back here alone; a failure leaves nothing to do.
        unsafe {
            let _ = result::destroy_matmul_desc(self.description);
            for layout in [self.first, self.second, self.out] {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: both were made by `Blas::new` and are given back here alone; a failure leaves nothing to do.
        unsafe {
            let _ = free_async(self.workspace, self.stream);
            let _ = result::destroy_handle(self.handle);
        }
    }
}

fn data_type(dtype: Dtype) -> cudaDataType {
    match dtype {
        Dtype::F32 => cudaDataType::CUDA_R_32F,
        Dtype::Bf16 => cudaDataType::CUDA_R_16BF,
    }
}

/// The power of two that an address is a multiple of, at most 256; any for null.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

impl Blas {
    pub fn new(device: &Device) -> Result<Self> {
        // SAFETY: it only tries to load the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                device.error("cuBLASLt was not found (libcublasLt.so); install CUDA's libraries, or use the CPU")
            );
        }
        let handle = result::create_handle().map_err(|error| device.error(format!("cuBLASLt failed ({error})")))?;
        let stream = device.stream();
        // SAFETY: the stream lives as long as the device, which drops this first; the memory is used on it alone.
        let workspace = unsafe { malloc_async(stream, WORKSPACE) }
            .map_err(|error| device.error(format!("no memory for cuBLASLt ({error})")))?;
        Ok(Self { handle, workspace, stream, plans: HashMap::new() })
    }

    /// `places` are the addresses of a, b, what is added (or 0) and the result.
    pub fn multiply(&mut self, device: &Device, product: &Product, places: [u64; 4]) -> Result<()> {
        let failed = |error: CublasError| device.error(format!("cuBLASLt failed in {product:?} ({error})"));
        let [a, b, add, out] = places;
        let key = Key { product: *product, alignment: places.map(alignment), adds: add != 0 };
        if !self.plans.contains_key(&key) {
            if self.plans.len() >= MOST_PLANS {
                self.plans.clear();
            }
            let parts = Parts::new(product).map_err(failed)?;
            let algorithm = choose(self.handle, &parts, &key).map_err(failed)?;
            self.plans.insert(key, Plan { parts, algorithm });
            return self.multiply(device, product, places);
        }
        let Some(Plan { parts, algorithm }) = self.plans.get(&key) else { return Ok(()) };
        let (alpha, beta) = (1.0f32, if add == 0 { 0.0f32 } else { 1.0 });
        let add = if add == 0 { out } else { add };
        // SAFETY: the plan was made for these operands, which lie on the device as large as the product says.
        unsafe {
            result::matmul(
                self.handle,
                parts.description,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                b as *const c_void,
                parts.first,
                a as *const c_void,
                parts.second,
                add as *const c_void,
                parts.out,
                out as *mut c_void,
                parts.out,
                std::ptr::from_ref(algorithm),
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream.cast(),
            )
        }
        .map_err(failed)
    }
}

/// An operand of `rows` × `cols` that lies row by row, as a matrix by columns: its rows are the columns.
fn operand(dtype: Dtype, layout: Layout, rows: usize, cols: usize) -> Result<sys::cublasLtMatrixLayout_t, CublasError> {
    let [rows, cols] = if layout.transposed { [cols, rows] } else { [rows, cols] };
    result::create_matrix_layout(data_type(dtype), cols as u64, rows as u64, layout.stride as i64)
}

impl Parts {
    fn new(product: &Product) -> Result<Self, CublasError> {
        let Product { m, n, k, input, output, a, b, out_stride } = *product;
        // f32 is f32: no rounding to TF32.
        let description =
            result::create_matmul_desc(cublasComputeType_t::CUBLAS_COMPUTE_32F, cudaDataType::CUDA_R_32F)?;
        let parts = Self {
            description,
            first: operand(input, b, k, n)?,
            second: operand(input, a, m, k)?,
            out: operand(output, Layout { transposed: false, stride: out_stride }, m, n)?,
        };
        for (attribute, layout) in [
            (cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, b),
            (cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSB, a),
        ] {
            // CUBLAS_OP_N and CUBLAS_OP_T.
            let operation = i32::from(layout.transposed);
            // SAFETY: the attribute is an i32, which is read before the call returns.
            unsafe { result::set_matmul_desc_attribute(description, attribute, (&raw const operation).cast(), 4)? };
        }
        Ok(parts)
    }
}

/// The algorithm that cuBLASLt holds to be the fastest. It is not measured, so that a run has the same bits each time.
fn choose(handle: sys::cublasLtHandle_t, parts: &Parts, key: &Key) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
    use cublasLtMatmulPreferenceAttributes_t as Attribute;

    let preference = result::create_matmul_pref()?;
    let [a, b, add, out] = key.alignment;
    let workspace = WORKSPACE;
    let alignments = [
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, if key.adds { add } else { out }),
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out),
    ];
    // SAFETY: the attributes are a usize and four u32, which are read before the calls return; the parts live.
    unsafe {
        let attribute = Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let mut set = result::set_matmul_pref_attribute(preference, attribute, (&raw const workspace).cast(), 8);
        for (attribute, bytes) in &alignments {
            let bytes = std::ptr::from_ref(bytes).cast();
            set = set.and_then(|()| result::set_matmul_pref_attribute(preference, *attribute, bytes, 4));
        }
        let found = set.and_then(|()| {
            let (first, second) = (parts.first, parts.second);
            result::get_matmul_algo_heuristic(
                handle,
                parts.description,
                first,
                second,
                parts.out,
                parts.out,
                preference,
            )
        });
        result::destroy_matmul_pref(preference)?;
        Ok(found?.algo)
    }
}
