//! The machine, as far as it tells.

use std::fs::read_to_string;
use std::process::Command;

pub fn describe() -> Vec<(String, String)> {
    let cpu = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim() == name));
        line.and_then(|l| l.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let flags = field("flags");
    let virtual_machine = flags.split(' ').any(|f| f == "hypervisor");
    let file = |path: &str| read_to_string(path).ok().map(|s| s.trim().to_owned());
    let model = format!("{}, family {} model {}", field("model name"), field("cpu family"), field("model"));
    let rows = [
        ("processor", model),
        ("cores", cpu.lines().filter(|l| l.starts_with("processor")).count().to_string()),
        ("caches of core 0", caches()),
        ("virtual machine", if virtual_machine { "yes" } else { "no" }.to_owned()),
        (
            "frequency governor",
            file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .unwrap_or_else(|| "none visible".to_owned()),
        ),
        ("kernel", file("/proc/sys/kernel/osrelease").unwrap_or_default()),
        (
            "clock source",
            file("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default(),
        ),
        (
            "memory",
            read_to_string("/proc/meminfo")
                .ok()
                .and_then(|m| Some(m.lines().next()?.to_owned()))
                .unwrap_or_default()
                .replace("MemTotal:", "")
                .trim()
                .to_owned(),
        ),
        ("compiler", compiler()),
        ("commit", commit()),
    ];
    rows.map(|(name, value)| (name.to_owned(), value)).into()
}

fn caches() -> String {
    let caches = (0..8).filter_map(|i| {
        let get = |what: &str| {
            read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{what}"))
                .ok()
                .map(|s| s.trim().to_owned())
        };
        let cpus = get("shared_cpu_list")?;
        Some(format!("L{} {} {} (cpu {cpus})", get("level")?, get("type")?.to_lowercase(), get("size")?))
    });
    let caches: Vec<String> = caches.collect();
    if caches.is_empty() { "not told".to_owned() } else { caches.join(", ") }
}

/// What was measured; with a `+` if files were changed since.
fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty=+"]).output();
    described.map_or_else(
        |_| "not told".to_owned(),
        |said| String::from_utf8_lossy(&said.stdout).trim().to_owned(),
    )
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(|_| "?".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
