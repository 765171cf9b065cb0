//! Which of the processes this one is: torchrun's environment.

use crate::{Error, Result};

/// Where one process stands among all that train together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// This process's number, from 0 (`RANK`).
    pub rank: usize,
    /// Its number on this host (`LOCAL_RANK`), which is that of its GPU.
    pub local_rank: usize,
    /// How many processes there are (`WORLD_SIZE`).
    pub world: usize,
    /// How many of them run on this host (`LOCAL_WORLD_SIZE`), if that was told.
    pub local_world: Option<usize>,
    /// Host of rank 0 (`MASTER_ADDR`).
    pub address: String,
    /// The port it listens on (`MASTER_PORT`).
    pub port: u16,
    /// What the processes of one launch have in common, so that a stranger is not taken for one of
    /// them (`ABN_JOB`; torchrun's `TORCHELASTIC_RUN_ID`).
    pub job: String,
}

impl Place {
    /// The place that the environment gives this process; `None` if it was not started as one of
    /// several.
    ///
    /// # Errors
    /// If only some of torchrun's variables are set, or one of them cannot be.
    pub fn from_environment() -> Result<Option<Self>> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    pub(crate) fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        const NEEDED: [&str; 4] = ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"];
        // `WORLD_SIZE` and the rest are set by other tools too; a rank is somebody's intention.
        if get("RANK").is_none() {
            return Ok(None);
        }
        let missing: Vec<_> = NEEDED.into_iter().filter(|name| get(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(Error::Parallel(format!(
                "RANK is set, but not {}: start the processes with torchrun or `abn train --gpus N`, which set \
                 RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or unset RANK",
                missing.join(", ")
            )));
        }
        let number = |name: &'static str| -> Result<Option<usize>> {
            let Some(text) = get(name) else { return Ok(None) };
            let parsed = text.trim().parse();
            parsed
                .map(Some)
                .map_err(|_| Error::Parallel(format!("{name} is {text:?}, expected a number")))
        };
        let rank = number("RANK")?.unwrap_or_default();
        let world = number("WORLD_SIZE")?.unwrap_or_default();
        if rank >= world {
            return Err(Error::Parallel(format!(
                "RANK is {rank} and WORLD_SIZE {world}: ranks count from 0, below the number of processes"
            )));
        }
        let port = number("MASTER_PORT")?.unwrap_or_default();
        // Where torchrun's agent serves a store of its own on that port, rank 0 takes the next one.
        let taken = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let port = u16::try_from(port + usize::from(taken)).ok().filter(|&port| port > 0);
        let port = port
            .ok_or_else(|| Error::Parallel("MASTER_PORT is no port: expected 1 to 65535".into()))?;
        Ok(Some(Self {
            rank,
            local_rank: number("LOCAL_RANK")?.unwrap_or(rank),
            world,
            local_world: number("LOCAL_WORLD_SIZE")?.filter(|&count| count > 0),
            address: get("MASTER_ADDR").unwrap_or_default(),
            port,
            job: get("ABN_JOB").or_else(|| get("TORCHELASTIC_RUN_ID")).unwrap_or_default(),
        }))
    }

    /// The variables that give a process this place.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("RANK", self.rank.to_string()),
            ("LOCAL_RANK", self.local_rank.to_string()),
            ("WORLD_SIZE", self.world.to_string()),
            ("MASTER_ADDR", self.address.clone()),
            ("MASTER_PORT", self.port.to_string()),
            ("ABN_JOB", self.job.clone()),
        ];
        variables.extend(self.local_world.map(|count| ("LOCAL_WORLD_SIZE", count.to_string())));
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Place>> {
        Place::from_variables(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ALL: [(&str, &str); 5] = [
        ("RANK", "3"),
        ("LOCAL_RANK", "1"),
        ("WORLD_SIZE", "4"),
        ("MASTER_ADDR", "node7"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn torchruns_environment_is_understood() {
        let place = of(&ALL).unwrap().unwrap();
        assert_eq!((place.rank, place.local_rank, place.world), (3, 1, 4));
        assert_eq!((place.address.as_str(), place.port), ("node7", 29500));
        let agent = [&ALL[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(of(&agent).unwrap().unwrap().port, 29501);
        let own: Vec<_> = place.variables();
        let own: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(of(&own).unwrap().unwrap(), place);
        assert_eq!(of(&[("WORLD_SIZE", "4")]).unwrap(), None, "nobody gave a rank");
    }

    #[test]
    fn what_is_missing_or_impossible_is_named() {
        let said = |variables: &[(&str, &str)]| of(variables).unwrap_err().to_string();
        assert!(said(&ALL[..1]).contains("not WORLD_SIZE, MASTER_ADDR, MASTER_PORT"));
        let with = |name: &str, value: &'static str| {
            ALL.map(|(key, old)| if key == name { (key, value) } else { (key, old) })
        };
        assert!(said(&with("RANK", "one")).contains("RANK is \"one\""));
        assert!(said(&with("RANK", "4")).contains("RANK is 4 and WORLD_SIZE 4"));
        assert!(said(&with("MASTER_PORT", "70000")).contains("1 to 65535"));
    }
}
