//! Which rank a process is, from the variables that torchrun, srun and mpirun set.

use std::ops::RangeInclusive;

use crate::{Error, Result};

/// Ports beside the one that is named, which rank 0 listens on where that one is taken.
const FURTHER_PORTS: u16 = 8;

/// A process's rank, and how to reach the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankAddress {
    /// Its number, from 0 on.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Its number on its machine, which selects its GPU.
    pub local_rank: usize,
    /// The machine of rank 0, by name or address.
    pub host: String,
    /// Rank 0 listens on the first of these ports that is free.
    pub ports: RangeInclusive<u16>,
    /// What tells this run from others on the same machines.
    pub run: String,
}

/// The variables in which a launcher says what it started.
struct Launcher {
    rank: &'static str,
    world_size: &'static str,
    local_rank: &'static str,
    /// Number of processes on this machine.
    local_size: &'static str,
    /// What tells its jobs apart.
    job: &'static [&'static str],
}

/// torchrun's and `paddock launch`'s own, Open MPI's, those of MPICH and Intel MPI, and Slurm's. Slurm's come last: where it
/// has started one of the others, they hold for that.
const LAUNCHERS: [Launcher; 4] = [
    Launcher {
        rank: "RANK",
        world_size: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        local_size: "LOCAL_WORLD_SIZE",
        job: &["TORCHELASTIC_RUN_ID"],
    },
    Launcher {
        rank: "OMPI_COMM_WORLD_RANK",
        world_size: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
        job: &["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"],
    },
    Launcher {
        rank: "PMI_RANK",
        world_size: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        local_size: "MPI_LOCALNRANKS",
        job: &["PMI_JOBID", "HYDRA_JOBID"],
    },
    Launcher {
        rank: "SLURM_PROCID",
        world_size: "SLURM_NTASKS",
        local_rank: "SLURM_LOCALID",
        local_size: "SLURM_TASKS_ON_NODE",
        job: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
    },
];

impl RankAddress {
    /// This process's own, from the environment; `None` when it trains alone.
    ///
    /// # Errors
    /// When the variables contradict each other, or do not say where rank 0 is.
    pub fn from_environment() -> Result<Option<Self>> {
        Self::from_variables(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        for launcher in &LAUNCHERS {
            let rank = number(variable, launcher.rank)?;
            let world_size = number(variable, slurm_step_size(launcher, variable))?;
            let (Some(rank), Some(world_size)) = (rank, world_size) else { continue };
            // srun, too, sets these two, but not the third.
            if launcher.rank == "PMI_RANK" && variable(launcher.local_rank).is_none() {
                continue;
            }
            if rank >= world_size {
                return Err(Error::Request(format!(
                    "{} is {rank}, expected less than {}, {world_size}",
                    launcher.rank, launcher.world_size
                )));
            }
            if world_size == 1 || is_batch_script(launcher, variable) {
                return Ok(None);
            }
            let (host, ports) = launcher.master(variable, world_size)?;
            let local_rank = match launcher.is_slurm() && sees_one_card(variable) {
                true => 0,
                false => number(variable, launcher.local_rank)?.unwrap_or(rank),
            };
            return Ok(Some(Self { rank, world_size, local_rank, host, ports, run: launcher.run(variable) }));
        }
        Ok(None)
    }

    /// The address of rank 0, for people.
    pub fn master(&self) -> String {
        format!("{}:{}", self.host, self.ports.start())
    }

    /// The variables that pass this to a process.
    pub fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("RANK", self.rank.to_string()),
            ("WORLD_SIZE", self.world_size.to_string()),
            ("LOCAL_RANK", self.local_rank.to_string()),
            ("MASTER_ADDR", self.host.clone()),
            ("MASTER_PORT", self.ports.start().to_string()),
            ("TORCHELASTIC_USE_AGENT_STORE", "False".to_string()),
        ]
    }
}

impl Launcher {
    fn is_slurm(&self) -> bool {
        self.rank == "SLURM_PROCID"
    }

    /// What tells the launcher's jobs apart, the same in all processes of one.
    fn run(&self, variable: &dyn Fn(&str) -> Option<String>) -> String {
        let parts: Vec<String> = self.job.iter().chain(&["MASTER_PORT"]).filter_map(|name| variable(name)).collect();
        parts.join("/")
    }

    /// Host and ports of rank 0.
    fn master(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        world_size: usize,
    ) -> Result<(String, RangeInclusive<u16>)> {
        let missing = |name: &str| {
            let size = self.world_size;
            Error::Request(format!(
                "{size} is {world_size}, but {name} does not say where rank 0 listens; set MASTER_ADDR and MASTER_PORT"
            ))
        };
        let alone = number(variable, self.local_size)? == Some(world_size);
        let nodes = || ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"].into_iter().find_map(variable);
        let host = match variable("MASTER_ADDR") {
            Some(host) => host,
            None if self.is_slurm() => nodes().and_then(|nodes| first_node(&nodes)).ok_or(missing("MASTER_ADDR"))?,
            None if alone && self.rank != "RANK" => "127.0.0.1".to_string(),
            None => return Err(missing("MASTER_ADDR")),
        };
        let port = match number(variable, "MASTER_PORT")? {
            Some(port) => u16::try_from(port)
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| Error::Request(format!("MASTER_PORT is {port}, expected a port, from 1 to 65535")))?,
            None if self.rank != "RANK" && self.job.iter().any(|name| variable(name).is_some()) => {
                port_of(&self.run(variable))
            }
            None => return Err(missing("MASTER_PORT")),
        };
        // torchrun's agent listens on MASTER_PORT itself.
        let taken = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let first = port.saturating_add(u16::from(taken));
        Ok((host, first..=first.saturating_add(FURTHER_PORTS)))
    }
}

fn number(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<usize>> {
    let Some(text) = variable(name) else { return Ok(None) };
    let number = text.trim().parse();
    number.map(Some).map_err(|_| Error::Request(format!("{name} is \"{text}\", expected a whole number")))
}

/// The name of the variable with the number of processes. A step of Slurm may have fewer than its job.
fn slurm_step_size(launcher: &Launcher, variable: &dyn Fn(&str) -> Option<String>) -> &'static str {
    let step = "SLURM_STEP_NUM_TASKS";
    if launcher.is_slurm() && variable(step).is_some() { step } else { launcher.world_size }
}

/// True in the script that sbatch runs once, whatever number of tasks the job has; srun starts those, and says so. Whoever
/// names rank 0's address means to have several all the same.
fn is_batch_script(launcher: &Launcher, variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let by_srun =
        || ["SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS"].into_iter().any(|name| variable(name).is_some());
    let is_first = variable(launcher.rank).is_some_and(|rank| rank.trim() == "0");
    let told = variable("MASTER_ADDR").is_some() && variable("MASTER_PORT").is_some();
    launcher.is_slurm() && is_first && !by_srun() && !told
}

/// True where Slurm shows every task a card of its own, which is then its first.
fn sees_one_card(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    variable("CUDA_VISIBLE_DEVICES").is_some_and(|cards| !cards.contains(','))
}

/// The first of Slurm's nodes: "gpu01" of "gpu[01-04,07],login1".
fn first_node(nodes: &str) -> Option<String> {
    let mut node = String::new();
    let mut rest = nodes.trim().chars();
    while let Some(character) = rest.next() {
        match character {
            ',' => break,
            '[' => {
                let group: String = rest.by_ref().take_while(|character| *character != ']').collect();
                node.extend(group.chars().take_while(|character| !['-', ','].contains(character)));
            }
            _ => node.push(character),
        }
    }
    Some(node).filter(|node| !node.is_empty())
}

/// A port for a job, the same in all its processes, below those that systems give out themselves.
fn port_of(job: &str) -> u16 {
    // FNV-1a.
    let hash = job
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    12_000 + (hash % 20_000) as u16
}

#[cfg(test)]
mod tests;
