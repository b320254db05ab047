//! What a run goes on from: weights and moments of all roles that are trained, and what changes beside them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use paddock_engine::weights::safetensors::read_header;
use paddock_engine::weights::{Encoding, Source, dequantize};
use paddock_learn::tape::{ParameterId, ParameterInfo, Tape};
use paddock_learn::{Adjoint, Moment, Store};
use pollster::block_on;

use super::PpoSettings;
use super::roles::Roles;
use super::update::Controls;
use crate::files::{Dtype, FolderSource, TensorSpec, write_file, write_safetensors};
use crate::{Error, Result};

/// Weights and moments by role.
const ROLES: &str = "roles.safetensors";
/// The rest.
const CONTROLS: &str = "ppo_state.json";

/// What is saved of a parameter, and how the names of that end.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Value,
    Moment(Moment),
}

const KEPT: [(&str, Kept); 3] =
    [("value", Kept::Value), ("exp_avg", Kept::Moment(Moment::First)), ("exp_avg_sq", Kept::Moment(Moment::Second))];

/// The trained parameters of a tape, those of `trained` where others share it.
pub(super) fn trained_parameters<B: Adjoint, S: Store<B>>(
    tape: &Tape<B, S>,
    trained: Option<&[ParameterId]>,
) -> Vec<ParameterInfo> {
    let mut infos = tape.parameters();
    infos.retain(|info| info.trained && trained.is_none_or(|trained| trained.contains(&info.id)));
    infos
}

/// One tensor of the file.
struct Saved<'a, B: Adjoint, S: Store<B>> {
    name: String,
    tape: &'a Tape<B, S>,
    info: ParameterInfo,
    kept: Kept,
}

fn all<B: Adjoint, S: Store<B>>(roles: &Roles<B, S>) -> Vec<Saved<'_, B, S>> {
    use paddock_learn::Objective;
    let mut all = Vec::new();
    let actor = (roles.actor.tape(), roles.actor.objective().trained());
    let critics = [("reward-critic", &roles.reward_critic), ("cost-critic", &roles.cost_critic)];
    let critics = critics.into_iter().filter_map(|(name, critic)| {
        let trainer = &critic.as_ref()?.trainer;
        Some((name, (trainer.tape(), trainer.objective().trained())))
    });
    for (role, (tape, trained)) in [("actor", actor)].into_iter().chain(critics) {
        for info in trained_parameters(tape, trained) {
            let saved = KEPT.map(|(end, kept)| Saved {
                name: format!("{role}:{}.{end}", info.label),
                tape,
                info: info.clone(),
                kept,
            });
            all.extend(saved);
        }
    }
    all
}

/// Writes the state into `folder`; a rank without one gives its parts instead.
///
/// # Errors
/// When the disk refuses, or a rank has ended.
pub(super) fn write<B: Adjoint, S: Store<B>>(
    folder: Option<&Path>,
    roles: &Roles<B, S>,
    controls: &Controls,
) -> Result<()> {
    let all = all(roles);
    let spec = |saved: &Saved<B, S>| TensorSpec {
        name: saved.name.clone(),
        shape: saved.info.shape.to_vec(),
        dtype: Dtype::F32,
    };
    let specs: Vec<TensorSpec> = all.iter().map(spec).collect();
    let values = |index: usize| {
        let Saved { tape, info, kept, .. } = &all[index];
        match kept {
            Kept::Value => block_on(tape.read_master(info.id)),
            Kept::Moment(moment) => block_on(tape.read_moment(info.id, *moment)),
        }
    };
    let Some(folder) = folder else { return (0..all.len()).try_for_each(|index| Ok(values(index).map(drop)?)) };
    let path = folder.join(ROLES);
    let mut file = BufWriter::new(File::create(&path).map_err(Error::path("create", &path))?);
    write_safetensors(&mut file, &specs, |index| {
        let (values, name) = (values(index)?, &all[index].name);
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(Error::Request(format!(
            "the run has come apart: {name} holds NaN or infinity and is not saved; lower --learning-rate and --critic-lr"
        )))
    })?;
    file.flush().map_err(Error::path("write", &path))?;
    let text = serde_json::to_string_pretty(controls).map_err(|error| Error::Request(error.to_string()))?;
    write_file(&folder.join(CONTROLS), &text)
}

/// Puts the state in `folder` in the place of the roles'.
///
/// # Errors
/// When something is missing or has another size.
pub(super) async fn read<B: Adjoint, S: Store<B>>(
    folder: &Path,
    roles: &Roles<B, S>,
    settings: &PpoSettings,
) -> Result<Controls> {
    let source = FolderSource::open(folder)?;
    let entries = read_header(&source, ROLES).await?;
    for Saved { name, tape, info, kept } in all(roles) {
        let entry = entries.iter().find(|entry| entry.name == name && entry.bytes == 4 * info.len() as u64);
        let entry = entry.ok_or_else(|| {
            Error::Request(format!(
                "{}: {name} is not of this run; resume another, or repeat its settings",
                folder.display()
            ))
        })?;
        let mut values = vec![0.0; info.len()];
        let bytes = source.read(ROLES, entry.offset..entry.offset + entry.bytes).await?;
        dequantize(Encoding::F32, &bytes, &mut values)?;
        match kept {
            Kept::Value => tape.write_parameter(info.id, 0, &values)?,
            Kept::Moment(moment) => tape.write_moment(info.id, moment, 0, &values)?,
        }
    }
    let path = folder.join(CONTROLS);
    let text = fs::read_to_string(&path).map_err(Error::path("read", &path))?;
    let controls: Controls = serde_json::from_str(&text)
        .map_err(|error| Error::Request(format!("{}: it is not the state of a run: {error}", path.display())))?;
    Ok(controls.resumed(settings))
}
