// `holdfast version`, as `holdfast --version`.

import ArgumentParser

struct VersionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

  func run() throws { try writeToStandardOutput("holdfast \(holdfastVersion)\n") }
}
