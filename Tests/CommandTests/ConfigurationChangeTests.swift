// What a new configuration changes: a comparison of values.

import Faults
import NBDServerCore
import Testing

@testable import holdfast

@Suite struct ConfigurationChanges {
  private func plan(_ exports: [ExportPlan], defaultExport: String? = nil) -> ServePlan {
    var plan = ServePlan()
    (plan.exports, plan.defaultExport) = (exports, defaultExport)
    return plan
  }

  private func change(
    from before: ServePlan, to after: ServePlan, byHand: [ExportPlan] = [], stale: Set<String> = []
  ) -> ConfigurationChange {
    let running =
      before.exports.map { RunningExport(plan: $0, isDefault: $0.name == before.defaultExport, isConfigured: true) }
      + byHand.map { RunningExport(plan: $0, isDefault: false, isConfigured: false) }
    return ConfigurationChange(from: running, before, to: after, stale: stale)
  }

  private let a = ExportPlan(name: "a", path: "/a")
  private let b = ExportPlan(name: "b", path: "/b")

  @Test func theSameIsNoChange() {
    let same = change(from: plan([a, b]), to: plan([b, a]))
    #expect(same.isNothing && same.unchanged == ["b", "a"] && same.notices.isEmpty)
  }

  @Test func whatComesAndGoesIsTold() {
    let change = change(from: plan([a]), to: plan([b]))
    #expect(change.added == [b] && change.removed == ["a"] && change.unchanged.isEmpty)
  }

  @Test func whatClientsAreNotToldChangesInPlace() {
    let edits: [(inout ExportPlan) -> Void] = [
      { $0.description = "x" }, { $0.terms.limits.connections = 1 }, { $0.terms.access = [.unix] },
      { $0.terms.ignoresTrim = true }, { $0.terms.durability = .always },
    ]
    for edit in edits {
      var edited = a
      edit(&edited)
      let change = change(from: plan([a, b]), to: plan([edited, b]))
      #expect(change.changed == [edited] && change.replaced.isEmpty && change.unchanged == ["b"])
    }
  }

  @Test func whatClientsWereToldIsReplaced() throws {
    let rule = try FaultRule(parsing: "read:error=EIO")
    let edits: [(inout ExportPlan) -> Void] = [
      { $0.path = "/c" }, { $0.isReadOnly = true }, { $0.terms.window.offsetBytes = 512 },
      { $0.terms.blockSizes.minimum = 512 }, { $0.faults = [rule] },
    ]
    for edit in edits {
      var edited = a
      edit(&edited)
      let change = change(from: plan([a, b]), to: plan([edited, b]))
      #expect(change.replaced == [edited] && change.changed.isEmpty && change.unchanged == ["b"])
    }
    #expect(change(from: plan([a]), to: plan([a]), stale: ["a"]).replaced == [a])
  }

  @Test func anotherDefaultChangesBoth() {
    let change = change(from: plan([a, b], defaultExport: "a"), to: plan([a, b], defaultExport: "b"))
    #expect(change.changed == [a, b])
  }

  /// What an operator added stays, unless the configuration has the name now.
  @Test func whatWasAddedByHandStays() {
    #expect(change(from: plan([a]), to: plan([a]), byHand: [b]).unchanged == ["a", "b"])
    #expect(change(from: plan([a]), to: plan([a, b]), byHand: [b]).changed == [b])
  }

  /// Whoever took it away by hand gets it back: the configuration says that it is served.
  @Test func whatWasRemovedByHandComesBack() {
    let change = ConfigurationChange(from: [], plan([a]), to: plan([a]))
    #expect(change.added == [a])
  }

  @Test func whatTakesARestartIsSaid() {
    var after = plan([a])
    (after.connectionsMax, after.spins, after.listeners) = (7, false, [loopback4(1)])
    #expect(
      change(from: plan([a]), to: after).notices == [
        "[server] listen has changed, which takes a restart",
        "[server] max-connections has changed, which takes a restart",
        "[server] spin has changed, which takes a restart",
      ])
  }

  @Test func aReportIsSentences() {
    var report = ReloadReport(change(from: plan([a, b]), to: plan([b, ExportPlan(name: "c", path: "/c")])))
    #expect(report.lines == ["added export \"c\"", "removed export \"a\""])
    report = ReloadReport(change(from: plan([a]), to: plan([a])))
    #expect(report.lines == ["no export has changed"])
  }
}
