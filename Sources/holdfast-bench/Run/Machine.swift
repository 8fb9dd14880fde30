// On what a run was made: no names of hosts or people.

import DaemonHarness
import Glibc

struct Machine {
  var facts: [(name: String, value: String)]

  init(servers: [ServerKind], holdfast: String, directory: String) {
    var facts: [(String, String)] = []
    let processors = text(of: "/proc/cpuinfo").split(separator: "\n").filter { $0.hasPrefix("model name") }
    let model = processors.first.flatMap { $0.split(separator: ":").last }.map { $0.drop { $0 == " " } } ?? "unknown"
    facts.append(("CPU", "\(sysconf(Int32(_SC_NPROCESSORS_ONLN))) x \(model)"))
    let memory = Double(sysconf(Int32(_SC_PHYS_PAGES))) * Double(sysconf(Int32(_SC_PAGESIZE)))
    facts.append(("memory", "\(fixed(memory / Double(1 << 30), 0)) GiB"))
    facts.append(("kernel", firstLine(of: ["uname", "-sr"])))
    facts.append(("file system", firstLine(of: ["findmnt", "-n", "-o", "FSTYPE", "-T", directory])))
    facts.append(("date", firstLine(of: ["date", "-u", "+%F"])))
    facts.append(("holdfast", firstLine(of: [holdfast, "--version"])))
    let tools = Set(servers.compactMap(\.tool)).sorted()
    for tool in tools + ["qemu-img", "nbdcopy"] {
      facts.append((tool, firstLine(of: [tool, tool == "nbd-server" ? "-V" : "--version"])))
    }
    self.facts = facts
  }
}

private func firstLine(of command: [String]) -> String {
  let result = try? run(command[0], Array(command.dropFirst()), seconds: 10)
  return result?.output.split(separator: "\n").first.map(String.init) ?? "unknown"
}
