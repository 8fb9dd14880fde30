// `holdfast completions SHELL`: what `make install` puts where the shells look for it.

import ArgumentParser

struct CompletionsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "completions",
    abstract: "Print the completions for a shell.",
    discussion: """
      The packages install them. By hand, for this session of bash:
        eval "$(holdfast completions bash)"
      """)

  enum Shell: String, ExpressibleByArgument, CaseIterable { case bash, zsh, fish }

  @Argument(help: "bash, zsh or fish.")
  var shell: Shell

  func run() throws {
    let script =
      switch shell {
      case .bash: Holdfast.completionScript(for: .bash)
      case .zsh: Holdfast.completionScript(for: .zsh)
      case .fish: Holdfast.completionScript(for: .fish)
      }
    try writeToStandardOutput(script.hasSuffix("\n") ? script : script + "\n")
  }
}
