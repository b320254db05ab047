//! The optimiser's state of all parameters of a tape, as a file: moments, and masters of weights in fewer bits.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::weights::safetensors::read_header;
use paddock_engine::weights::{Encoding, Source, dequantize};
use paddock_learn::tape::{ParameterId, ParameterInfo};
use paddock_learn::{Adjoint, Moment, Store, Tape};
use pollster::block_on;

use crate::files::{Dtype, FolderSource, TensorSpec, write_safetensors};
use crate::{Error, Result};

/// First and second moments of every parameter.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Suffixes of a parameter's moments, as PyTorch calls them.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];
/// Suffix of the f32 values of a parameter that the model holds in bf16.
const MASTER: &str = "master";

/// Writes the state of the parameters of `tape` as `path`; a rank without one gives its parts instead.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
pub async fn write<B: Adjoint, S: Store<B>>(path: Option<&Path>, tape: &Tape<B, S>) -> Result<()> {
    let Some(path) = path else { return give(tape).await };
    let mut file = BufWriter::new(File::create(path).map_err(Error::path("create", path))?);
    write_states(&mut file, tape).map_err(|error| match error {
        Error::Output(error) => Error::path("write", path)(error),
        other => other,
    })?;
    file.flush().map_err(Error::path("write", path))
}

/// Puts the state in the file `name` of `folder` in the place of the tape's.
///
/// # Errors
/// When a tensor is missing or has another size.
pub async fn read<B: Adjoint, S: Store<B>>(folder: &Path, name: &str, tape: &Tape<B, S>) -> Result<()> {
    let source = FolderSource::open(folder)?;
    let entries = read_header(&source, name).await?;
    for info in tape.parameters() {
        let size = info.len();
        // A rank reads what it holds.
        let part = tape.sharding().map_or(0..size, |sharding| sharding.part(size));
        for state in states(&info) {
            let tensor = state.name(&info);
            let entry = entries.iter().find(|entry| entry.name == tensor && entry.bytes == 4 * size as u64);
            let entry = entry.ok_or_else(|| {
                Error::Request(format!("{}: {tensor} is not of this model; resume another run", folder.display()))
            })?;
            let range = entry.offset + 4 * part.start as u64..entry.offset + 4 * part.end as u64;
            let mut values = vec![0.0; part.len()];
            dequantize(Encoding::F32, &source.read(name, range).await?, &mut values)?;
            match state {
                SavedState::Moment(moment) => tape.write_moment(info.id, moment, part.start, &values)?,
                SavedState::Master => tape.write_parameter(info.id, part.start, &values)?,
            }
        }
    }
    Ok(())
}

/// A tensor of the optimiser's state.
#[derive(Debug, Clone, Copy)]
enum SavedState {
    Moment(Moment),
    /// The values of a parameter that the model holds in fewer bits.
    Master,
}

impl SavedState {
    /// Its name in the file.
    fn name(self, info: &ParameterInfo) -> String {
        let suffix = match self {
            Self::Moment(moment) => MOMENTS[moment as usize],
            Self::Master => MASTER,
        };
        format!("{}.{suffix}", info.label)
    }

    /// Its whole values, of which every rank gives its part.
    async fn read<B: Adjoint, S: Store<B>>(self, tape: &Tape<B, S>, id: ParameterId) -> Result<Vec<f32>> {
        Ok(match self {
            Self::Moment(moment) => tape.read_moment(id, moment).await?,
            Self::Master => tape.read_master(id).await?,
        })
    }
}

/// What is saved of a parameter beside its values.
fn states(info: &ParameterInfo) -> Vec<SavedState> {
    let mut states = Vec::new();
    if info.trained {
        states.extend([Moment::First, Moment::Second].map(SavedState::Moment));
    }
    if info.has_master {
        states.push(SavedState::Master);
    }
    states
}

/// What a rank does while the first one writes the optimiser's state.
async fn give<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>) -> Result<()> {
    for info in tape.parameters() {
        for state in states(&info) {
            state.read(tape, info.id).await?;
        }
    }
    Ok(())
}

fn write_states<B: Adjoint, S: Store<B>>(file: &mut impl Write, tape: &Tape<B, S>) -> Result<()> {
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    for info in tape.parameters() {
        for state in states(&info) {
            entries.push(TensorSpec { name: state.name(&info), shape: info.shape.to_vec(), dtype: Dtype::F32 });
            places.push((info.id, state));
        }
    }
    write_safetensors(file, &entries, |entry| {
        let (id, state) = places[entry];
        block_on(state.read(tape, id))
    })
}
