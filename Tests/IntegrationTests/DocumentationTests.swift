// Every command in README.md and in the EXAMPLES of the manual pages is run, in a world of its own (scripts/documentation-world).

import DaemonHarness
import Testing

/// Lines that are not run, by how they begin: why, and what covers them.
private let notRun: [String: String] = [
  "apt-get install": "needs a network; the Makefile installs the same packages for these tests",
  "apt install": "needs a package that was built; make test-deb",
  "nbd-client": "needs a kernel with nbd; make test-guest",
  "nbdfuse disk/nbd": "stays in the foreground; the quick start runs it, with &, in a line that begins otherwise",
  "echo '{": "needs nc from netcat-openbsd, which this does not install for one line; AdminTests",
  "holdfast status --watch": "a screen that goes on until it is left; ScreenshotTests",
  "holdfast snapshot": "needs XFS or btrfs; SnapshotTests",
  "systemctl": "needs systemd; make test-systemd",
  "qemu-system-x86_64": "needs a system to boot; make test-guest",
  "  'file=nbd": "goes on with the line before",
  "journalctl": "needs systemd; make test-systemd",
  "swift build": "the folder of the build is locked by the tests; make torture-build",
  ".build/": "is built by make torture, which runs it",
  "make": "builds, or takes long; what it would run is run where it stands here",
]

/// A server beside the commands: those that speak to one.
private func server(for commands: DocumentedCommands) throws -> String {
  if commands.section == "Quick start", commands.lines.contains(where: { $0.contains("10809") }) {
    // What `make run` runs when it has built.
    let recipe = try run(
      "/usr/bin/make", ["-n", "-C", DocumentedCommands.root, "run", "IMAGE=demo.img", "SIZE=1G"], seconds: 20)
    let line = try #require(recipe.output.split(separator: "\n").first { $0.contains("holdfast serve") })
    return String(try #require(line.firstRange(of: "serve").map { line[$0.lowerBound...] }))
  }
  if commands.section.hasPrefix("Clients") { return "serve disk.img" }
  let speaks = #/holdfast (status|reload|export|connections|snapshot|clear-error)|curl|admin\.sock|127\.0\.0\.1:10809/#
  if commands.lines.contains(where: { $0.contains(speaks) }) { return "serve --config /etc/holdfast/running.toml" }
  return ""
}

private func isTOML(_ lines: [String]) -> Bool {
  lines.first { !$0.isEmpty && !$0.hasPrefix("#") }?.hasPrefix("[") == true
}

extension Integration {
  @Suite struct Documentation {
    @Test(
      needsRoot, needs("nbdinfo", "nbdcopy", "nbdsh", "nbdfuse", "qemu-img", "fio", "unshare"),
      arguments: DocumentedCommands.ofReadme)
    func commandsOfTheReadmeWork(commands: DocumentedCommands) throws { try expectSuccess(commands) }

    @Test(
      needsRoot, needs("nbdinfo", "nbdcopy", "nbdfuse", "unshare"),
      arguments: DocumentedCommands.manuals.flatMap(DocumentedCommands.ofManual))
    func examplesOfTheManualsWork(commands: DocumentedCommands) throws { try expectSuccess(commands) }

    @Test func thereAreCommandsToRun() {
      #expect(DocumentedCommands.ofReadme.count >= 10)
      #expect(DocumentedCommands.manuals.count >= 3)
      #expect(DocumentedCommands.ofManual("holdfast.1").flatMap(\.lines).count >= 10)
    }

    /// A reason for what is not there any more is out of date.
    @Test func everyReasonIsNeeded() {
      let all = (DocumentedCommands.ofReadme + DocumentedCommands.manuals.flatMap(DocumentedCommands.ofManual)).flatMap(
        \.lines)
      for beginning in notRun.keys {
        #expect(all.contains { $0.hasPrefix(beginning) }, "no line begins with \(beginning)")
      }
    }

    private func expectSuccess(_ commands: DocumentedCommands) throws {
      try withScratch { scratch in
        var script = commands.lines
        if isTOML(script) {
          script = ["cat >sample.toml <<'END'"] + script + ["END", "holdfast check-config --config sample.toml"]
        } else {
          script = script.map { line in notRun.keys.contains(where: { line.hasPrefix($0) }) ? ":" : line }
        }
        guard script.contains(where: { $0 != ":" && !$0.isEmpty }) else { return }
        let result = try run(
          DocumentedCommands.root + "/scripts/documentation-world",
          [Daemon.binary, try server(for: commands), script.joined(separator: "\n")], seconds: 90)
        #expect(result.status == .exited(0), "\(commands.place): \(result.output)")
      }
    }
  }
}
