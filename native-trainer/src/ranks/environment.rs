//! Which rank a process is, from the variables that torchrun, srun and mpirun set.

use crate::{Error, Result};

/// Variables that hold a process's rank, the number of ranks, and its rank on its machine: torchrun's and
/// `paddock launch`'s own, Slurm's, Open MPI's.
const NAMES: [[&str; 3]; 3] = [
    ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
];

/// A process's rank, and how to reach the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankAddress {
    /// Its number, from 0 on.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Its number on its machine, which selects its GPU.
    pub local_rank: usize,
    /// Address and port that rank 0 listens on.
    pub master: String,
}

impl RankAddress {
    /// This process's own, from the environment; `None` when it trains alone.
    ///
    /// # Errors
    /// When the variables contradict each other.
    pub fn from_environment() -> Result<Option<Self>> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let number = text.trim().parse();
            number.map(Some).map_err(|_| Error::Request(format!("{name} is \"{text}\", expected a whole number")))
        };
        for [rank_name, size_name, local_name] in NAMES {
            let (Some(rank), Some(world_size)) = (number(rank_name)?, number(size_name)?) else { continue };
            if rank >= world_size {
                return Err(Error::Request(format!(
                    "{rank_name} is {rank}, expected less than {size_name}, {world_size}"
                )));
            }
            if world_size == 1 {
                return Ok(None);
            }
            let local_rank = number(local_name)?.unwrap_or(rank);
            let (Some(address), Some(port)) = (variable("MASTER_ADDR"), variable("MASTER_PORT")) else {
                return Err(Error::Request(format!(
                    "{size_name} is {world_size}, but MASTER_ADDR and MASTER_PORT do not say where rank 0 listens; set both"
                )));
            };
            return Ok(Some(Self { rank, world_size, local_rank, master: format!("{address}:{port}") }));
        }
        Ok(None)
    }

    /// The variables that pass this to a process.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        let (address, port) = self.master.rsplit_once(':').unwrap_or((&self.master, ""));
        [
            ("RANK", self.rank.to_string()),
            ("WORLD_SIZE", self.world_size.to_string()),
            ("LOCAL_RANK", self.local_rank.to_string()),
            ("MASTER_ADDR", address.to_string()),
            ("MASTER_PORT", port.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<RankAddress>> {
        let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        RankAddress::from_variables(of)
    }

    #[test]
    fn every_launcher_is_understood() {
        let master = [("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")];
        let place = RankAddress { rank: 5, world_size: 8, local_rank: 1, master: "10.0.0.1:29500".to_string() };
        for [rank, size, local] in NAMES {
            let variables = [&master[..], &[(rank, "5"), (size, "8"), (local, "1")]].concat();
            assert_eq!(read(&variables).unwrap(), Some(place.clone()));
        }
        let own: Vec<_> = place.variables().into();
        let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(read(&own).unwrap(), Some(place));
    }

    #[test]
    fn alone_is_alone_and_nonsense_is_refused() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
        for (variables, word) in [
            (&[("RANK", "2"), ("WORLD_SIZE", "2")][..], "expected less than WORLD_SIZE"),
            (&[("RANK", "one"), ("WORLD_SIZE", "2")], "whole number"),
            (&[("RANK", "1"), ("WORLD_SIZE", "2")], "MASTER_ADDR"),
        ] {
            let error = read(variables).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
