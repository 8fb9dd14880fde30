// The commands of README.md and of the EXAMPLES of the manual pages, as scripts for a shell.

import DaemonHarness
import Testing

/// Lines that belong together and are run one after the other.
struct DocumentedCommands: CustomTestStringConvertible {
  /// `README.md:12`
  var place: String
  /// The heading above them.
  var section: String
  var lines: [String]

  var testDescription: String { "\(place) (\(section))" }

  static let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

  /// Every block of README.md that is marked as shell, and the column of commands of the table of clients.
  static let ofReadme: [DocumentedCommands] = {
    var found: [DocumentedCommands] = []
    var section = ""
    var block: DocumentedCommands?
    for (index, line) in text(of: root + "/README.md").split(separator: "\n", omittingEmptySubsequences: false)
      .enumerated()
    {
      if let open = block {
        if line == "```" {
          found.append(open)
          block = nil
        } else {
          block?.lines.append(String(line))
        }
      } else if line == "```sh" {
        block = DocumentedCommands(place: "README.md:\(index + 1)", section: section, lines: [])
      } else if line.hasPrefix("## ") {
        section = String(line.dropFirst(3))
      } else if section.hasPrefix("Clients"), line.hasPrefix("| "), !line.hasPrefix("| client") {
        found.append(DocumentedCommands(place: "README.md:\(index + 1)", section: section, lines: clientCommands(line)))
      }
    }
    return found
  }()

  /// What stands in backquotes in the second column, with `U` as what the text above the table says.
  private static func clientCommands(_ row: Substring) -> [String] {
    let column = row.split(separator: "|", omittingEmptySubsequences: false).dropFirst(2).first ?? ""
    let quoted = column.split(separator: "`", omittingEmptySubsequences: false).enumerated()
    return quoted.filter { $0.offset % 2 == 1 }.flatMap { _, command in
      // Both URIs, so that each is seen to work.
      ["nbd://127.0.0.1:10809/disk.img", "'nbd+unix:///disk.img?socket=/run/holdfast/nbd.sock'"].map { uri in
        command.split(separator: " ").map { $0 == "U" ? uri : $0.hasSuffix("=U") ? $0.dropLast() + uri : String($0) }
          .joined(separator: " ")
      }
    }
  }

  /// The literal displays of the section EXAMPLES.
  static func ofManual(_ page: String) -> [DocumentedCommands] {
    var found: [DocumentedCommands] = []
    var section = ""
    var block: DocumentedCommands?
    for (index, line) in text(of: "\(root)/man/\(page)").split(separator: "\n").enumerated() {
      if line.hasPrefix(".Sh ") { section = String(line.dropFirst(4)) }
      guard section == "EXAMPLES" else { continue }
      if line.hasPrefix(".Bd") {
        block = DocumentedCommands(place: "man/\(page):\(index + 1)", section: section, lines: [])
      } else if line == ".Ed", let open = block {
        found.append(open)
        block = nil
      } else {
        block?.lines.append(String(line.replacing("\\-", with: "-").replacing("\\e", with: "\\")))
      }
    }
    return found
  }

  static let manuals: [String] = {
    let listing = try? run("/bin/ls", [root + "/man"], seconds: 10)
    return listing?.output.split(separator: "\n").map(String.init) ?? []
  }()
}
