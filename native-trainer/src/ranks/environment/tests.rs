use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Option<RankAddress>> {
    let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    RankAddress::from_variables(&of)
}

/// Reads lines of "NAME=value", as `env` prints them.
fn recorded(environment: &str) -> Result<Option<RankAddress>> {
    let variables: Vec<(&str, &str)> = environment.lines().filter_map(|line| line.trim().split_once('=')).collect();
    read(&variables)
}

/// `torchrun --nproc-per-node 2 --no-python env` of PyTorch 2.15, the lines that concern ranks.
const TORCHRUN: &str = "GROUP_RANK=0
    GROUP_WORLD_SIZE=1
    LOCAL_RANK=1
    LOCAL_WORLD_SIZE=2
    MASTER_ADDR=localhost
    MASTER_PORT=38079
    RANK=1
    ROLE_RANK=1
    ROLE_WORLD_SIZE=2
    TORCHELASTIC_MAX_RESTARTS=0
    TORCHELASTIC_RESTART_COUNT=0
    TORCHELASTIC_RUN_ID=0f3fad94-a0ed-46f6-91f1-94aa69617ce2
    TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT
    TORCHELASTIC_USE_AGENT_STORE=True
    WORLD_SIZE=2";

/// A task of `srun --ntasks 4 --ntasks-per-node 2 --gpus-per-task 1 env` in a job of two nodes.
const SRUN: &str = "CUDA_VISIBLE_DEVICES=0
    SLURM_GPUS_PER_TASK=1
    SLURM_JOB_ID=4711
    SLURM_JOB_NODELIST=gpu[03,07]
    SLURM_LAUNCH_NODE_IPADDR=10.1.0.1
    SLURM_LOCALID=1
    SLURM_NNODES=2
    SLURM_NODEID=1
    SLURM_NTASKS=4
    SLURM_NTASKS_PER_NODE=2
    SLURM_PROCID=3
    SLURM_STEP_ID=0
    SLURM_STEP_NODELIST=gpu[03,07]
    SLURM_STEP_NUM_TASKS=4
    SLURM_TASKS_PER_NODE=2(x2)";

/// The script of `sbatch --ntasks 4`, which runs once, without srun.
const SBATCH: &str = "SLURM_JOB_ID=4711
    SLURM_JOB_NODELIST=gpu[03,07]
    SLURM_LOCALID=0
    SLURM_NNODES=2
    SLURM_NODEID=0
    SLURM_NTASKS=4
    SLURM_PROCID=0
    SLURM_TASKS_PER_NODE=2(x2)";

/// A process of `mpirun -n 2 env` of Open MPI 4 on one machine.
const MPIRUN: &str = "OMPI_COMM_WORLD_LOCAL_RANK=1
    OMPI_COMM_WORLD_LOCAL_SIZE=2
    OMPI_COMM_WORLD_NODE_RANK=1
    OMPI_COMM_WORLD_RANK=1
    OMPI_COMM_WORLD_SIZE=2
    OMPI_MCA_ess_base_jobid=2769485825
    OMPI_UNIVERSE_SIZE=2
    PMIX_NAMESPACE=2769485825
    PMIX_RANK=1";

#[test]
fn torchruns_agent_keeps_its_port() {
    let place = recorded(TORCHRUN).unwrap().unwrap();
    assert_eq!((place.rank, place.world_size, place.local_rank), (1, 2, 1));
    assert_eq!((place.host.as_str(), place.ports.clone()), ("localhost", 38080..=38088));
    // An agent that keeps its store elsewhere leaves the port to rank 0.
    let without = TORCHRUN.replace("STORE=True", "STORE=False");
    assert_eq!(recorded(&without).unwrap().unwrap().ports, 38079..=38087);
}

#[test]
fn sruns_tasks_find_the_first_node() {
    let place = recorded(SRUN).unwrap().unwrap();
    assert_eq!((place.rank, place.world_size), (3, 4));
    assert_eq!(place.local_rank, 0, "a task that sees one card uses it");
    assert_eq!(place.host, "gpu03");
    assert!((12_000..32_000).contains(place.ports.start()), "{:?}", place.ports);
    let other = recorded(&SRUN.replace("PROCID=3", "PROCID=0").replace("LOCALID=1", "LOCALID=0")).unwrap().unwrap();
    assert_eq!((&other.ports, &other.run), (&place.ports, &place.run));
    let all = recorded(&SRUN.replace("DEVICES=0", "DEVICES=0,1")).unwrap().unwrap();
    assert_eq!(all.local_rank, 1);
    let told = recorded(&format!("{SRUN}\nMASTER_ADDR=10.0.0.9\nMASTER_PORT=29500")).unwrap().unwrap();
    assert_eq!((told.host.as_str(), *told.ports.start()), ("10.0.0.9", 29500));
    // A step of one task in a larger job.
    assert_eq!(recorded(&SRUN.replace("NUM_TASKS=4", "NUM_TASKS=1").replace("PROCID=3", "PROCID=0")).unwrap(), None);
}

#[test]
fn a_batch_script_trains_alone() {
    assert_eq!(recorded(SBATCH).unwrap(), None);
    assert_eq!(read(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]).unwrap(), None);
    // torchrun and mpirun inside of one are not alone.
    assert_eq!(recorded(&format!("{SBATCH}\n{TORCHRUN}")).unwrap().unwrap().ports, 38080..=38088);
    assert_eq!(recorded(&format!("{SBATCH}\n{MPIRUN}")).unwrap().unwrap().rank, 1);
}

#[test]
fn mpiruns_processes_on_one_machine_need_no_address() {
    let place = recorded(MPIRUN).unwrap().unwrap();
    assert_eq!((place.rank, place.local_rank, place.host.as_str()), (1, 1, "127.0.0.1"));
    let error = recorded(&MPIRUN.replace("LOCAL_SIZE=2", "LOCAL_SIZE=1")).unwrap_err().to_string();
    assert!(error.contains("OMPI_COMM_WORLD_SIZE is 2") && error.contains("set MASTER_ADDR"), "{error}");
}

#[test]
fn every_launcher_is_understood() {
    let master = [("MASTER_ADDR", "10.0.0.1"), ("MASTER_PORT", "29500")];
    let place = |run: &str| RankAddress {
        rank: 5,
        world_size: 8,
        local_rank: 1,
        host: "10.0.0.1".to_string(),
        ports: 29500..=29508,
        run: run.to_string(),
    };
    for launcher in &LAUNCHERS {
        let own = [(launcher.rank, "5"), (launcher.world_size, "8"), (launcher.local_rank, "1")];
        assert_eq!(read(&[&master[..], &own].concat()).unwrap(), Some(place("29500")));
    }
    let own: Vec<_> = place("29500").variables().into();
    let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(read(&own).unwrap(), Some(place("29500")));
}

#[test]
fn alone_is_alone_and_nonsense_is_refused() {
    assert_eq!(read(&[]).unwrap(), None);
    assert_eq!(read(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
    let master = [("MASTER_ADDR", "::1"), ("RANK", "1"), ("WORLD_SIZE", "2")];
    for (variables, word) in [
        (&[("RANK", "2"), ("WORLD_SIZE", "2")][..], "expected less than WORLD_SIZE"),
        (&[("RANK", "one"), ("WORLD_SIZE", "2")], "whole number"),
        (&[("RANK", "1"), ("WORLD_SIZE", "2")], "MASTER_ADDR"),
        (&master, "MASTER_PORT"),
        (&[&master[..], &[("MASTER_PORT", "70000")]].concat(), "from 1 to 65535"),
    ] {
        let error = read(variables).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn slurms_lists_of_nodes_are_read() {
    for (nodes, first) in [
        ("gpu01", "gpu01"),
        ("a1,b2", "a1"),
        ("gpu[01-04,07],login1", "gpu01"),
        ("rack[2-3]n[10,12]", "rack2n10"),
        ("n[5]-ib", "n5-ib"),
    ] {
        assert_eq!(first_node(nodes).as_deref(), Some(first), "{nodes}");
    }
    assert_eq!(first_node(" "), None);
}
