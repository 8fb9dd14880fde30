// Rules that a program can check. Each message says what to do instead.

import Foundation
import Testing

@Suite struct Tidy {
  /// What a target may import of this package and of others (ARCHITECTURE.md, "Targets"). The arrows point down.
  static let allowedImports: [String: Set<String>] = [
    "CLinux": [],
    "NBDProtocol": [],
    "RangeLocks": [],
    "Locking": ["Glibc"],
    "Oracle": ["Glibc", "Synchronization"],
    "BlockBackend": ["Locking", "SystemPackage", "Synchronization"],
    "Faults": ["BlockBackend", "SystemPackage"],
    "Syscalls": ["CLinux", "Glibc", "SystemPackage", "Synchronization"],
    "SparseFile": ["BlockBackend", "Locking", "Syscalls", "SystemPackage", "Synchronization"],
    "NBDServerCore": [
      "NBDProtocol", "RangeLocks", "BlockBackend", "SystemPackage", "DequeModule", "Synchronization",
    ],
    "Reports": ["NBDServerCore", "NBDProtocol", "SystemPackage"],
    "EventLoops": ["Locking", "Syscalls", "SystemPackage", "DequeModule", "Synchronization", "Dispatch"],
    "HoldfastServer": [
      "EventLoops", "NBDServerCore", "Reports", "NBDProtocol", "BlockBackend", "RangeLocks", "Locking", "Syscalls",
      "SystemPackage", "Logging", "DequeModule", "Synchronization",
    ],
    "holdfast": [
      "HoldfastServer", "NBDServerCore", "SparseFile", "Faults", "BlockBackend", "Locking", "Syscalls", "EventLoops",
      "SystemPackage", "Logging", "ArgumentParser", "TOMLKit", "Synchronization", "Glibc", "FoundationEssentials",
      "Reports",
    ],
    "Simulation": [
      "NBDServerCore", "NBDProtocol", "RangeLocks", "BlockBackend", "Faults", "Oracle", "SystemPackage",
    ],
    "holdfast-sim": ["Simulation", "BlockBackend", "Faults", "ArgumentParser", "Foundation"],
    "holdfast-bench": [
      "Reports", "Locking", "Syscalls", "DaemonHarness", "SystemPackage", "ArgumentParser", "Synchronization", "Glibc",
    ],
    "Torture": ["Oracle"],
    "holdfast-torture": [
      "Torture", "Oracle", "Reports", "CNbd", "Locking", "Syscalls", "ArgumentParser", "Synchronization", "Glibc",
    ],
    "holdfast-soak": ["DaemonHarness", "NBDClient", "Locking", "Oracle", "ArgumentParser", "Dispatch", "Glibc"],
    "holdfast-bench-locks": ["RangeLocks", "Syscalls", "SystemPackage", "Glibc"],
  ]

  /// Where one operation on raw memory stands per `unsafe`, with the reason it holds (ARCHITECTURE.md, "Where `unsafe` may stand").
  static let unsafePlaces = [
    "Sources/Syscalls/", "Sources/BlockBackend/IOBuffer.swift", "Sources/BlockBackend/PieceBuffer.swift",
    "Sources/BlockBackend/RawBytes.swift", "Sources/Locking/", "Sources/NBDProtocol/Wire",
    "Sources/holdfast-bench-locks/",
  ]

  /// Types whose sharing the compiler cannot check.
  static let uncheckedSendablePlaces = [
    "Sources/BlockBackend/IOBuffer.swift", "Sources/BlockBackend/PieceBuffer.swift", "Sources/Locking/",
  ]

  @Test func importsFollowTheArrows() {
    for file in Repository.sources {
      guard let allowed = Self.allowedImports[file.target] else {
        Issue.record("\(file.path): target \(file.target) is not in the table of arrows; add what it may import")
        continue
      }
      for (number, text) in file.numbered {
        guard let module = importedModule(text), !allowed.contains(module) else { continue }
        Issue.record(
          "\(file.path):\(number): \(file.target) may not import \(module), only \(allowed.sorted()); move the code down"
        )
      }
    }
  }

  @Test func everyTargetOfTheTableExists() {
    let targets = Set(Repository.files.filter { $0.path.hasPrefix("Sources/") }.map(\.target))
    for target in Self.allowedImports.keys.sorted() {
      #expect(targets.contains(target), "\(target) is in the table of arrows but not in Sources/; take it out")
    }
  }

  @Test func filesHaveOneIdea() {
    for file in Repository.swift + Repository.files.filter({ $0.path.hasSuffix(".h") || $0.path.hasSuffix(".c") }) {
      #expect(file.lines.count <= 400, "\(file.path) has \(file.lines.count) lines; look for the second idea in it")
    }
  }

  @Test func filesSayWhatTheyAreFor() {
    for file in Repository.swift where file.path != "Package.swift" {
      #expect(
        file.lines.first?.hasPrefix("// ") == true,
        "\(file.path): begin with a comment that says what the file is for and the rule it keeps")
    }
  }

  @Test func sharingIsCheckedByTheCompiler() {
    for file in Repository.swift where !isIn(Self.uncheckedSendablePlaces, file) && !file.path.hasPrefix("Tests/") {
      for (number, text) in file.numbered where SourceFile.code(text).contains("@unchecked" + " Sendable") {
        Issue.record("\(file.path):\(number): make it Sendable without @unchecked: a Locked, an Atomic, or an owner")
      }
      for (number, text) in file.numbered where SourceFile.code(text).contains("nonisolated" + "(unsafe)") {
        Issue.record("\(file.path):\(number): use a Locked or an Atomic instead of nonisolated(unsafe)")
      }
    }
  }

  @Test func locksAreLocked() {
    for file in Repository.swift where !file.path.hasPrefix("Tests/TidyTests") && file.target != "Locking" {
      for (number, text) in file.numbered where SourceFile.code(text).contains(/\bMutex[<(]/) {
        Issue.record("\(file.path):\(number): use Locked: a priority-inheriting mutex forms convoys (Locked.swift)")
      }
    }
  }

  @Test func unsafeStaysInItsPlaces() {
    let word = /\bunsafe\b/
    for file in Repository.sources where !isIn(Self.unsafePlaces, file) {
      for (number, text) in file.numbered where SourceFile.code(text).contains(word) {
        if SourceFile.code(text).contains("@unsafe @preconcurrency import Dispatch") { continue }
        Issue.record("\(file.path):\(number): unsafe code stays in \(Self.unsafePlaces); use a Span, or move it there")
      }
    }
  }

  @Test func nothingIsPublic() {
    // What is public in Locking says why.
    let word = /^\s*(public|open)\s+[a-z@]/
    for file in Repository.sources where file.target != "Locking" {
      for (number, text) in file.numbered where SourceFile.code(text).contains(word) {
        Issue.record("\(file.path):\(number): there is no library to be public in; use package or less")
      }
    }
  }

  @Test func nothingIsLeftForLater() {
    let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X", ".disab" + "led("]
    for file in Repository.files where file.path != "LICENSE" {
      for (number, text) in file.numbered {
        for mark in marks where text.contains(mark) && !text.contains("X" + mark) {
          Issue.record("\(file.path):\(number): \(mark): do it, or open an issue and take the mark out")
        }
      }
    }
  }

  @Test func noPathOfOneMachineIsWritten() throws {
    // The folders of people and build machines; composed, so that this line is not one of them.
    let folders = ["work", "farm", "home", "root", "Users"].joined(separator: "|")
    let pattern = try Regex("(^|[^A-Za-z0-9_.])/(\(folders))/")
    for file in Repository.files {
      for (number, text) in file.numbered where text.contains(pattern) {
        Issue.record("\(file.path):\(number): a path of one machine; use a relative one or an example below /srv")
      }
    }
  }

  /// In tables of the texts, the column `test` or `tests` names test functions, files or folders of Tests/.
  @Test func textsNameTestsThatExist() {
    let functions = Set(Repository.tests.flatMap(\.lines).compactMap { declaredFunction($0) })
    let files = Set(Repository.tests.map { $0.path.dropFirst("Tests/".count).dropLast(".swift".count) })
    let known = functions.union(files.map(String.init)).union(Repository.tests.map(\.target)).union(["pending"])
    for file in Repository.files where file.path.hasSuffix(".md") {
      for (number, cell) in testCells(file) {
        for match in cell.matches(of: /`([^`]+)`/) where !known.contains(String(match.1)) {
          Issue.record("\(file.path):\(number): there is no test \(match.1); name the one that shows the claim")
        }
      }
    }
  }

  @Test func namesOfTestsAreClaims() {
    for file in Repository.tests {
      for (number, text) in file.numbered {
        guard let name = declaredFunction(text), text.contains("@Test") else { continue }
        let says = name.firstMatch(of: /^test[A-Z0-9_]/) == nil
        #expect(says, "\(file.path):\(number): \(name): say what is claimed: overlappingWriteWaits")
      }
    }
  }

  /// The cells of the test columns of all tables, with their lines.
  private func testCells(_ file: SourceFile) -> [(number: Int, cell: Substring)] {
    var column: Int?
    var cells: [(Int, Substring)] = []
    for (number, text) in file.numbered {
      guard text.hasPrefix("|") else {
        column = nil
        continue
      }
      let row = text.split(separator: "|", omittingEmptySubsequences: false)
      if let head = row.firstIndex(where: { [" test ", " tests "].contains($0) }) {
        column = head
      } else if let column, column < row.count {
        cells.append((number, row[column]))
      }
    }
    return cells
  }

  private func isIn(_ places: [String], _ file: SourceFile) -> Bool {
    places.contains { file.path.hasPrefix($0) }
  }

  private func importedModule(_ line: String) -> String? {
    let match = line.firstMatch(
      of: /^(?:@[A-Za-z_]+ |package |internal |public )*import (?:struct |func |class |enum )?(\w+)/)
    return match.map { String($0.1) }
  }

  private func declaredFunction(_ line: String) -> String? {
    line.firstMatch(of: /\bfunc (\w+)/).map { String($0.1) }
  }
}
