//! Who takes part: actor, reference, reward and cost models, and their critics; as models of their own, or as adapters and
//! heads on one frozen trunk.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use paddock_engine::ModelConfig;
use paddock_engine::config::HeadSpec;
use paddock_engine::model::{CausalLm, LoadProgress, ScoreModel, Trunk};
use paddock_engine::tokenizer::Tokenizer;
use paddock_engine::weights::Checkpoint;
use paddock_learn::collective::Sharding;
use paddock_learn::lora::{ADAPTER_CONFIG, Lora};
use paddock_learn::objective::{Critic, Policy};
use paddock_learn::tape::{KeptWhole, ParameterId, Tape};
use paddock_learn::{Adjoint, Role, Store, TapeOptions, Trainer};

use super::PpoSettings;
use super::judge::Judge;
use crate::files::{Description, ModelSource, Unmerged, read_unmerged};
use crate::training::Place;
use crate::{Error, Result};

/// A critic in training.
pub(super) struct TrainedCritic<B: Adjoint, S: Store<B>> {
    pub trainer: Trainer<B, Critic<B, S>, S>,
    pub kind: CriticKind,
}

/// What a critic is, and where it is from.
pub(super) enum CriticKind {
    /// A model of its own, whose folder says this besides the weights.
    Whole(Description),
    /// The adapter in this folder.
    Adapter(PathBuf),
    /// New adapters on the score model at this path.
    NewAdapter(PathBuf),
}

/// All of them. Who has no part in a run is not there.
pub(super) struct Roles<B: Adjoint, S: Store<B>> {
    pub actor: Trainer<B, Policy<B, S>, S>,
    pub reference: Policy<B, S>,
    pub reward: Option<Judge<B, S>>,
    pub cost: Option<Judge<B, S>>,
    pub reward_critic: Option<TrainedCritic<B, S>>,
    pub cost_critic: Option<TrainedCritic<B, S>>,
}

/// This rank's number, and how many there are.
pub(super) fn place<B: Adjoint, S: Store<B>>(tape: &Tape<B, S>) -> [usize; 2] {
    tape.sharding().map_or([0, 1], |sharding| [sharding.ranks.rank(), sharding.ranks.world_size()])
}

impl<B: Adjoint, S: Store<B>> Roles<B, S> {
    /// This rank's number, and how many there are.
    pub fn place(&self) -> [usize; 2] {
        place(self.actor.tape())
    }

    /// How ranks share the roles.
    pub fn sharding(&self) -> Option<&Sharding<B>> {
        self.actor.tape().sharding()
    }

    /// Keeps the weights of all roles whole on every rank until the result is dropped: see [`Tape::keep_whole`].
    ///
    /// # Errors
    /// When a rank has ended, or the device has no room.
    pub fn keep_whole(&self) -> Result<Vec<KeptWhole<B, S>>> {
        let judges = [&self.reward, &self.cost].into_iter().flatten().map(|judge| judge.model().backend());
        let critics =
            [&self.reward_critic, &self.cost_critic].into_iter().flatten().map(|critic| critic.trainer.tape());
        let first = [self.actor.tape(), self.reference.model().backend()].into_iter();
        first.chain(judges).chain(critics).map(|tape| Ok(tape.keep_whole()?)).collect()
    }
}

/// Loads the roles of `settings`; the actor is read from `checkpoint`, and is the settings' model or a later state of it.
pub(super) async fn load<B: Adjoint, S: Store<B>>(
    settings: &PpoSettings,
    checkpoint: &mut Checkpoint<ModelSource>,
    tokenizer: &Tokenizer,
    place: &Place<B, S>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Roles<B, S>> {
    let memory = &settings.run.memory;
    let options = TapeOptions {
        checkpointing: memory.gradient_checkpointing,
        precision: memory.precision(),
        moments: memory.moments,
        frozen: memory.adapters.lora.is_some(),
    };
    let loader = RoleLoader { settings, tokenizer, place, options };
    let tape = loader.tape(options);
    let model = CausalLm::load(&tape, checkpoint, progress).await?;
    let (actor, reference) = match &memory.adapters.lora {
        Some(lora) => (loader.adapted_actor(&tape, &model, lora).await?, loader.shared_reference(&tape, &model).await?),
        None => (Policy::new(model.clone(), None), loader.separate_reference(progress).await?),
    };
    let shared = memory.adapters.lora.is_some().then(|| (tape.clone(), model.trunk().clone()));
    let [reward_path, cost_path] = [&settings.reward_model, &settings.cost_model];
    let reward = loader.judge("reward", reward_path.as_deref(), settings.normalize_reward, &shared, progress).await?;
    let cost = loader.judge("cost", cost_path.as_deref(), settings.normalize_cost, &shared, progress).await?;
    let critics = settings.advantage == super::Advantage::Gae;
    let from =
        |own: &Option<PathBuf>, model: &Option<PathBuf>| own.clone().or_else(|| model.clone()).filter(|_| critics);
    let reward_from = from(&settings.reward_critic, reward_path);
    let cost_from = from(&settings.cost_critic, cost_path).filter(|_| settings.has_constraint());
    let reward_critic = loader.critic("reward-critic", reward_from.as_deref(), &shared, progress).await?;
    let cost_critic = loader.critic("cost-critic", cost_from.as_deref(), &shared, progress).await?;
    Ok(Roles { actor: Trainer::new(tape, actor), reference, reward, cost, reward_critic, cost_critic })
}

/// A tape, and the trunk on it that roles share.
type Shared<B, S> = Option<(Tape<B, S>, Rc<Trunk<Tape<B, S>>>)>;

struct RoleLoader<'a, B: Adjoint, S: Store<B>> {
    settings: &'a PpoSettings,
    tokenizer: &'a Tokenizer,
    place: &'a Place<B, S>,
    options: TapeOptions,
}

impl<B: Adjoint, S: Store<B>> RoleLoader<'_, B, S> {
    fn tape(&self, options: TapeOptions) -> Tape<B, S> {
        let Place { backend, store, sharding } = self.place;
        Tape::with_store(backend.clone(), store.clone(), sharding.clone(), options)
    }

    /// The actor: the adapter that it begins with, or a new one.
    async fn adapted_actor(
        &self,
        tape: &Tape<B, S>,
        model: &CausalLm<Tape<B, S>>,
        lora: &Lora,
    ) -> Result<Policy<B, S>> {
        let mut actor = model.clone();
        let mut role = Role::new(tape, "actor", true);
        let products = match &self.settings.actor_adapter {
            Some(path) => read_unmerged(path, model.config()).await?.modules,
            None => lora.products(model.config(), self.settings.run.seed)?,
        };
        role.adapt_language_model(&mut actor, &products)?;
        Ok(Policy::new(actor, Some(role.into_parameters())))
    }

    /// The trunk without adapters, or with a frozen one.
    async fn shared_reference(&self, tape: &Tape<B, S>, model: &CausalLm<Tape<B, S>>) -> Result<Policy<B, S>> {
        let mut reference = model.clone();
        if let Some(path) = &self.settings.reference {
            if !is_adapter(path) {
                return Err(Error::Request(format!(
                    "{} is a model, and beside adapters the reference is the model without them, or an adapter on it; leave \
                     --reference out, or train the whole model",
                    path.display()
                )));
            }
            let mut role = Role::new(tape, "reference", false);
            let products = read_unmerged(path, model.config()).await?.modules;
            role.adapt_language_model(&mut reference, &products)?;
        }
        Ok(Policy::new(reference, Some(Vec::new())))
    }

    async fn separate_reference(&self, progress: &mut dyn FnMut(LoadProgress)) -> Result<Policy<B, S>> {
        let path = self.settings.reference.as_ref().unwrap_or(&self.settings.run.model);
        let tape = self.tape(TapeOptions { frozen: true, ..self.options });
        let mut checkpoint = Checkpoint::open(ModelSource::open(path)?).await?;
        self.same_tokenizer(path, &mut checkpoint).await?;
        Ok(Policy::new(CausalLm::load(&tape, &mut checkpoint, progress).await?, Some(Vec::new())))
    }

    /// The model at `path` that gives answers a score.
    async fn judge(
        &self,
        name: &str,
        path: Option<&Path>,
        normalize: bool,
        shared: &Shared<B, S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Option<Judge<B, S>>> {
        let Some(path) = path else { return Ok(None) };
        if is_adapter(path) {
            let (model, _) = self.on_trunk(name, path, false, shared).await?;
            return Ok(Some(Judge::new(Critic::new(model, Some(Vec::new())), None, normalize)));
        }
        let mut checkpoint = Checkpoint::open(ModelSource::open(path)?).await?;
        let own = match is_head(&checkpoint) {
            true => None,
            false => Some(Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?),
        };
        let own = match own {
            Some(own) if own.to_json()? != self.tokenizer.to_json()? => Some(own),
            _ => None,
        };
        let options = TapeOptions { frozen: true, ..self.options };
        let model = self.score_model(path, &mut checkpoint, options, shared, progress).await?;
        Ok(Some(Judge::new(Critic::new(model, Some(Vec::new())), own, normalize)))
    }

    /// A score model on a tape of its own, or a head alone on the shared trunk.
    async fn score_model(
        &self,
        path: &Path,
        checkpoint: &mut Checkpoint<ModelSource>,
        options: TapeOptions,
        shared: &Shared<B, S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<ScoreModel<Tape<B, S>>> {
        let model = match shared.as_ref().filter(|_| is_head(checkpoint)) {
            Some((_, trunk)) => ScoreModel::load_beside(trunk.clone(), checkpoint, progress).await?,
            None => ScoreModel::load(&self.tape(options), checkpoint, progress).await?,
        };
        match model.head().score_dim {
            1 => Ok(model),
            more => Err(Error::Request(format!("{} gives {more} scores, expected one", path.display()))),
        }
    }

    /// A critic that begins as the score model at `path`.
    async fn critic(
        &self,
        name: &str,
        path: Option<&Path>,
        shared: &Shared<B, S>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Option<TrainedCritic<B, S>>> {
        let Some(path) = path else { return Ok(None) };
        if is_adapter(path) {
            let (model, ids) = self.on_trunk(name, path, true, shared).await?;
            let trainer = Trainer::new(model.backend().clone(), Critic::new(model, Some(ids)));
            return Ok(Some(TrainedCritic { trainer, kind: CriticKind::Adapter(path.to_path_buf()) }));
        }
        let lora = self.settings.run.memory.adapters.lora.as_ref();
        let mut checkpoint = Checkpoint::open(ModelSource::open(path)?).await?;
        let base = if is_head(&checkpoint) { &self.settings.run.model } else { path };
        self.same_tokenizer(path, &mut checkpoint).await?;
        let model = self.score_model(path, &mut checkpoint, self.options, shared, progress).await?;
        let tape = model.backend().clone();
        let Some(lora) = lora else {
            let dtype = self.settings.run.memory.dtype;
            let description = Description::new(path, checkpoint.config(), self.tokenizer, dtype)?;
            let trainer = Trainer::new(tape, Critic::new(model, None));
            return Ok(Some(TrainedCritic { trainer, kind: CriticKind::Whole(description) }));
        };
        let (model, ids) = self.adapted(name, &tape, &model, lora).await?;
        let trainer = Trainer::new(tape, Critic::new(model, Some(ids)));
        Ok(Some(TrainedCritic { trainer, kind: CriticKind::NewAdapter(base.to_path_buf()) }))
    }

    /// A score model that is an adapter and a head on the shared trunk.
    async fn on_trunk(
        &self,
        name: &str,
        path: &Path,
        trained: bool,
        shared: &Shared<B, S>,
    ) -> Result<(ScoreModel<Tape<B, S>>, Vec<ParameterId>)> {
        let Some((tape, trunk)) = shared else {
            return Err(Error::Request(format!(
                "{} is an adapter, and the whole actor is trained, so there is no trunk to share; add --lora-rank, or merge \
                 the adapter",
                path.display()
            )));
        };
        let Unmerged { modules, head } = read_unmerged(path, trunk.config()).await?;
        let Some((weight, bias)) = head else {
            return Err(Error::Request(format!(
                "{} has no head: expected score.weight among its tensors; without it the adapter gives no scores",
                path.display()
            )));
        };
        let mut role = Role::new(tape, name, trained);
        let mut model = role.score_model(trunk.clone(), HeadSpec::classifier(), &weight, bias)?;
        role.adapt_score_model(&mut model, &modules)?;
        Ok((model, role.into_parameters()))
    }

    /// A score model of its own with new adapters, and a copy of its head that is trained.
    async fn adapted(
        &self,
        name: &str,
        tape: &Tape<B, S>,
        model: &ScoreModel<Tape<B, S>>,
        lora: &Lora,
    ) -> Result<(ScoreModel<Tape<B, S>>, Vec<ParameterId>)> {
        let Some((weight, bias)) = model.linear_head() else {
            return Err(Error::Request(
                "a critic with adapters needs a head of one layer; train the whole model".into(),
            ));
        };
        let weight = tape.read_parameter(*weight).await?;
        let bias = match bias {
            Some(bias) => tape.read_parameter(*bias).await?.first().copied(),
            None => None,
        };
        let mut role = Role::new(tape, name, true);
        let mut adapted = role.score_model(model.trunk().clone(), model.head().clone(), &weight, bias)?;
        role.adapt_score_model(&mut adapted, &lora.products(model.trunk().config(), self.settings.run.seed)?)?;
        Ok((adapted, role.into_parameters()))
    }

    async fn same_tokenizer(&self, path: &Path, checkpoint: &mut Checkpoint<ModelSource>) -> Result<()> {
        if is_head(checkpoint) {
            return Ok(());
        }
        let own = Tokenizer::from_files(&checkpoint.tokenizer_files().await?)?;
        if own.to_json()? == self.tokenizer.to_json()? {
            return Ok(());
        }
        Err(Error::Request(format!(
            "{} has another tokenizer than the actor; a critic and a reference see the actor's tokens, so give one with the \
             same tokenizer",
            path.display()
        )))
    }
}

/// Whether there is an adapter at `path`, and not a model.
pub(super) fn is_adapter(path: &Path) -> bool {
    path.join(ADAPTER_CONFIG).exists()
}

/// Whether a checkpoint holds a head alone, on a trunk that is elsewhere.
fn is_head(checkpoint: &Checkpoint<ModelSource>) -> bool {
    checkpoint.config().score_head().is_some_and(|head| head.trunk.is_some())
}

/// The values of the parameters of `config`'s model without its normaliser's, which are no parameters of a tape.
pub(super) fn params(config: &ModelConfig) -> Vec<paddock_engine::config::Param> {
    let mut params = config.params();
    params.retain(|param| !param.name.starts_with("normalizer."));
    params
}
