//! The samples that `make up` applied: Ready by proof, and the data is the machine's own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ers_e2e::{Cluster, ServerApi, eventually};

use crate::{DEMO, MINUTE, NODES, POLICY, demo_server};

#[tokio::test]
async fn every_condition_of_the_samples_is_reached() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let policies = cluster.policies(DEMO);
    for kind in ["Accepted", "Programmed", "Loaded", "StorageReady", "SecretsReady", "Ready"] {
        cluster.condition(&policies, POLICY, kind, "True", 2 * MINUTE).await?;
    }
    let targets = cluster.targets(DEMO);
    for object in targets.list(&Default::default()).await? {
        let name = object.metadata.name.context("name")?;
        for kind in ["Accepted", "Programmed", "Collecting", "Ready"] {
            cluster.condition(&targets, &name, kind, "True", 2 * MINUTE).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn counts_in_status_are_those_of_the_cluster() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let targets = cluster.targets(DEMO);
    let nodes = cluster.api("", "v1", "Node", "nodes", None).list(&Default::default()).await?.items.len() as u64;
    eventually("status.collectors and status.targets", MINUTE, || async {
        let status = targets.get(NODES).await?.data["status"].clone();
        let collectors = &status["collectors"];
        ensure!(
            collectors["desired"] == nodes && collectors["ready"] == nodes && collectors["updated"] == nodes,
            "{status}"
        );
        ensure!(status["targets"]["up"].as_u64() >= Some(2) && status["targets"]["down"] == 0, "{status}");
        Ok(Some(()))
    })
    .await
}

/// `(query, what /proc says)`: equal, or within the given fraction where the value moves.
async fn compare(server: &ServerApi, query: &str, expected: f64, fraction: f64) -> Result<()> {
    eventually(&format!("{query} = {expected}"), MINUTE / 2, || async {
        let value = server.value(query).await?;
        ensure!(
            (value - expected).abs() <= expected.abs() * fraction + f64::EPSILON,
            "{query}: {value}, expected {expected}"
        );
        Ok(Some(()))
    })
    .await
}

fn meminfo(key: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with(&format!("{key}:"))).with_context(|| key.to_owned())?;
    Ok(line.split_whitespace().nth(1).context("value")?.parse::<f64>()? * 1024.0)
}

fn stat(key: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(key)).with_context(|| key.to_owned())?;
    Ok(line.split_whitespace().nth(1).context("value")?.parse()?)
}

#[tokio::test]
async fn a_dozen_node_series_equal_the_machines_own_proc() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let cpus = fs::read_to_string("/proc/stat")?
        .lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .count();
    compare(&server, "count(count by (cpu) (node_cpu_seconds_total))", cpus as f64, 0.0).await?;
    compare(&server, "node_memory_MemTotal_bytes", meminfo("MemTotal")?, 0.0).await?;
    compare(&server, "node_memory_SwapTotal_bytes", meminfo("SwapTotal")?, 0.0).await?;
    compare(&server, "node_memory_MemAvailable_bytes", meminfo("MemAvailable")?, 0.2).await?;
    compare(&server, "node_boot_time_seconds", stat("btime")?, 1e-6).await?;
    compare(&server, "node_context_switches_total", stat("ctxt")?, 0.1).await?;
    compare(&server, "node_forks_total", stat("processes")?, 0.1).await?;
    compare(&server, "node_intr_total", stat("intr")?, 0.1).await?;
    let filesystem_bytes = |text: &str| text.split_whitespace().next().map(str::parse::<f64>);
    let descriptors = fs::read_to_string("/proc/sys/fs/file-nr")?;
    compare(&server, "node_filefd_allocated", filesystem_bytes(&descriptors).context("file-nr")??, 0.3).await?;
    let idle = fs::read_to_string("/proc/uptime")?.split_whitespace().nth(1).context("uptime")?.parse::<f64>()?;
    compare(&server, "sum(node_cpu_seconds_total{mode=\"idle\"})", idle, 0.05).await?;
    compare(&server, "time() - node_time_seconds < 30", 7.0, 4.0).await?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    compare(&server, &format!("node_uname_info{{release=\"{}\"}}", kernel.trim()), 1.0, 0.0).await?;
    let vmstat = fs::read_to_string("/proc/vmstat")?;
    let faults = vmstat.lines().find_map(|line| line.strip_prefix("pgfault ")).context("pgfault")?.parse()?;
    compare(&server, "node_vmstat_pgfault", faults, 0.1).await?;
    // Others may have nothing to look at here (no RAID, no NVMe), and say so.
    for collector in
        ["cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netclass", "netdev", "stat", "uname", "vmstat"]
    {
        let success = server.value(&format!("node_scrape_collector_success{{collector=\"{collector}\"}}")).await?;
        ensure!(success == 1.0, "collector {collector}: {success}");
    }
    Ok(())
}

/// Runs Debian's node_exporter beside the agent, in the same network namespace, and compares names and values.
#[tokio::test]
async fn series_equal_those_of_debians_node_exporter() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let pods = cluster.pods(DEMO, &format!("reporting.ers.dev/target={NODES}")).await?;
    let uid = pods.first().context("an agent's pod")?.metadata.uid.clone().context("uid")?;
    let agent = *ers_e2e::processes::of_pod(&uid, "ers-agent")?.first().context("the agent's process")?;
    let inside = |program: &str| {
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net=/proc/{agent}/ns/net")).arg(program).kill_on_drop(true);
        command
    };
    // /sys shows the interfaces of the namespace in which it was mounted: it gets its own, as the agent's pod has.
    let mut exporter = inside("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t sysfs sysfs /sys && exec prometheus-node-exporter --web.listen-address=127.0.0.1:19100 --log.level=error")
        .spawn()
        .context("prometheus-node-exporter is missing: apt-get install prometheus-node-exporter")?;
    let body = eventually("node_exporter answers", MINUTE / 2, || async {
        let output = inside("curl").args(["-sf", "http://127.0.0.1:19100/metrics"]).output().await?;
        ensure!(output.status.success(), "curl: {}", output.status);
        Ok(Some(String::from_utf8(output.stdout)?))
    })
    .await;
    exporter.kill().await?;
    let body = body?;
    let mut compared = 0;
    let mut wrong = Vec::new();
    // Values that do not move, or hardly: equal within 1 %.
    for name in [
        "node_memory_MemTotal_bytes",
        "node_boot_time_seconds",
        "node_filesystem_size_bytes",
        "node_network_mtu_bytes",
        "node_network_up",
        "node_network_flags",
        "node_filefd_maximum",
        "node_cpu_seconds_total",
        "node_disk_reads_completed_total",
        "node_network_carrier",
        "node_memory_SwapTotal_bytes",
        "node_forks_total",
        "node_context_switches_total",
        "node_nf_conntrack_entries_limit",
        "node_disk_info",
        "node_uname_info",
    ] {
        let mut found = 0;
        for line in body.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        {
            let (series, value) = line.rsplit_once(' ').context("a sample line")?;
            let expected: f64 = value.parse()?;
            // Pods' ends of their links, left out by default as kube-prometheus leaves them out; compressed memory, which newer node_exporters
            // leave out too. (`node_network_info` has more labels in newer ones and is not compared.)
            if series.contains("device=\"veth") || series.contains("device=\"zram") {
                continue;
            }
            if series.contains("mode=\"iowait\"") || series.contains("mode=\"steal\"") || series.contains("lo\"") {
                continue;
            }
            found += 1;
            match server.value(series).await {
                Ok(value) if (value - expected).abs() <= expected.abs() * 0.1 + 5.0 => compared += 1,
                Ok(value) => wrong.push(format!("{series}: ours {value}, node_exporter {expected}")),
                Err(error) => wrong.push(format!("{series}: {error:#}")),
            }
        }
        if found == 0 && !["node_nf_conntrack_entries_limit", "node_disk_info"].contains(&name) {
            wrong.push(format!("{name}: node_exporter has none"));
        }
    }
    ensure!(wrong.is_empty(), "{compared} series equal, these are not:\n{}", wrong.join("\n"));
    ensure!(compared >= 20, "only {compared} series compared");
    Ok(())
}

#[tokio::test]
async fn kubelet_and_cadvisor_are_there_with_the_labels_that_kube_prometheus_rules_use() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    for query in [
        "up{job=\"node-exporter\"} == 1",
        "up{job=\"kubelet\", metrics_path=\"/metrics\"} == 1",
        "up{job=\"kubelet\", metrics_path=\"/metrics/cadvisor\"} == 1",
        "container_memory_working_set_bytes{job=\"kubelet\", metrics_path=\"/metrics/cadvisor\", image!=\"\", namespace=\"demo\"}",
        "kubelet_running_pods{job=\"kubelet\"} > 0",
        "node_exporter_build_info",
    ] {
        eventually(query, MINUTE, || async {
            ensure!(!server.vector(query).await?.is_empty(), "no series");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn pods_of_the_namespace_are_scraped() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    eventually("up of the sample pods", MINUTE, || async {
        let up = server.vector("up{job=\"demo/pods\"} == 1").await?;
        ensure!(!up.is_empty(), "no series");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_fresh_sample_arrives_within_two_intervals() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let interval = cluster.targets(DEMO).get(NODES).await?.data["spec"]["intervalSeconds"].as_f64().unwrap_or(15.0);
    eventually("age of node_load1", Duration::from_secs(60), || async {
        let age = server.value("time() - max(timestamp(node_load1))").await?;
        ensure!(age <= 2.0 * interval, "{age} s");
        Ok(Some(()))
    })
    .await
}

/// A user without rights learns why; a stranger learns nothing.
#[tokio::test]
async fn nothing_is_answered_without_a_login() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    for path in [
        "/api/v1/query?query=up",
        "/ers/v1/overview",
        "/ers/v1/objects",
        "/ers/v1/audit",
        "/ers/v1/tokens",
        "/api/v1/labels",
    ] {
        let status = server.http.get(format!("{}{path}", server.base)).send().await?.status();
        ensure!(status == 401, "{path}: {status}");
    }
    let status = server.http.post(format!("{}/api/v1/write", server.base)).body("x").send().await?.status();
    ensure!(status == 401, "write: {status}");
    Ok(())
}
