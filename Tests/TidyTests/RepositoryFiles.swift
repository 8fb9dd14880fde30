// The files of the repository, as the rules look at them.

import Foundation

struct SourceFile: Sendable {
  /// Relative to the repository.
  let path: String
  let lines: [String]

  /// Lines with their 1-based numbers.
  var numbered: [(number: Int, text: String)] { lines.enumerated().map { ($0 + 1, $1) } }
}

enum Repository {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Every text file but what is built or hidden; .ci and the dot files at the top belong to it.
  static let files: [SourceFile] = {
    let skipped: Set = [".git", ".build", ".swiftpm", "Package.resolved"]
    var found: [SourceFile] = []
    var folders = [""]
    while let folder = folders.popLast() {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: root.appending(path: folder).path)) ?? []
      for name in names where !skipped.contains(name) && !name.hasPrefix(".build") {
        let path = folder.isEmpty ? name : "\(folder)/\(name)"
        let isFolder = (try? root.appending(path: path).resourceValues(forKeys: [.isDirectoryKey]))?.isDirectory
        if isFolder == true { folders.append(path) } else if let file = read(path) { found.append(file) }
      }
    }
    return found.sorted { $0.path < $1.path }
  }()

  static let swift = files.filter { $0.path.hasSuffix(".swift") }
  static let sources = swift.filter { $0.path.hasPrefix("Sources/") }
  static let tests = swift.filter { $0.path.hasPrefix("Tests/") }

  /// Nil for what is no text or too large to be written by hand, such as images left by a run.
  private static func read(_ path: String) -> SourceFile? {
    let url = root.appending(path: path)
    guard let size = try? FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int, size < 1 << 20,
      let text = try? String(contentsOf: url, encoding: .utf8)
    else { return nil }
    var lines = text.components(separatedBy: "\n")
    if lines.last == "" { lines.removeLast() }
    return SourceFile(path: path, lines: lines)
  }
}

extension SourceFile {
  /// `Sources/TARGET/…`, `Tests/TARGET/…`.
  var target: String {
    let parts = path.split(separator: "/")
    return parts.count > 2 ? String(parts[1]) : ""
  }

  /// The text of a line without its comment and without what stands in its string literals.
  static func code(_ line: String) -> String {
    var result = ""
    var isInString = false
    var previous: Character = " "
    for character in line {
      if isInString {
        if character == "\"", previous != "\\" { isInString = false }
      } else if character == "\"" {
        isInString = true
      } else if character == "/", previous == "/" {
        return String(result.dropLast())
      } else {
        result.append(character)
      }
      previous = character
    }
    return result
  }
}
