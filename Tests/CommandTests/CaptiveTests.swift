// What a captive command is told, and what cannot be started.

import Syscalls
import Testing

@testable import holdfast

@Suite struct Captives {
  @Test func variablesNameTheFirstListenerAndEachKind() {
    let variables = CaptiveVariables(export: "a b", listeners: [loopback6(7), .unix(path: "/x y"), loopback4(8)])
    #expect(
      variables.assignments == [
        "uri=nbd://[::1]:7/a%20b", "unixsocket=/x y", "port=7", "exportname=a b", "nbd=nbd:[::1]:7:exportname=a b",
      ])
  }

  @Test func whatIsNotThereIsEmpty() {
    let variables = CaptiveVariables(export: "", listeners: [.unix(path: "/s")])
    #expect(
      variables.assignments == [
        "uri=nbd+unix:///?socket=/s", "unixsocket=/s", "port=", "exportname=", "nbd=nbd:unix:/s",
      ])
    #expect(CaptiveVariables(export: "e", listeners: []).assignments.first == "uri=")
  }

  @Test func aShellThatCannotBeStartedIsToldWithItsReason() {
    let command = CaptiveCommand("true", CaptiveVariables(export: "", listeners: []))
    #expect(
      throws: CommandFailure(.systemError, "cannot start /no/shell for --run: No such file or directory")
    ) {
      try command.start(shell: "/no/shell") { _ in Issue.record("it did not run") }
    }
  }

  @Test func defaultListenersAreLeftOutForCaptives() throws {
    var nowhere = RuntimeDirectories(isRoot: false)
    nowhere.listensElsewhere = true
    let plan = try plan("--run", "true", "a.img", directories: nowhere)
    #expect(plan.listeners.isEmpty && plan.listenersOrigin == .nobody)
  }

  @Test func theRuntimeDirectoryIsMadeForWhoeverNamesIt() throws {
    var used = try plan("--unix", "/run/holdfast/other.sock", "a.img")
    used.makeRuntimeDirectoryIfUsed(rootDirectories)
    #expect(used.socketDirectory == "/run/holdfast")
    var elsewhere = try plan("--unix", "/run/holdfast.sock", "a.img")
    elsewhere.makeRuntimeDirectoryIfUsed(rootDirectories)
    #expect(elsewhere.socketDirectory == nil)
  }
}
