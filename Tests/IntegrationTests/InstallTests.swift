// What `make install` puts where, and whether the shells can use what it installs for them.

import DaemonHarness
import Testing

extension Integration {
  @Suite struct Installation {
    private static let root = DocumentedCommands.root

    /// Installs the daemon under test below `place`.
    private func install(to place: String, prefix: String) throws {
      try make("install", place, prefix)
    }

    private func make(_ goal: String, _ place: String, _ prefix: String) throws {
      try shell(
        "umask 077; make --no-print-directory -C '\(Self.root)' \(goal) DESTDIR='\(place)' PREFIX='\(prefix)' BINARY='\(Daemon.binary)'",
        seconds: 60
      ).orThrow()
    }

    private func tree(_ place: String) throws -> [String] {
      try shell("cd '\(place)' && find . -type f -printf '%m %P\\n' | sort -k 2", seconds: 10).orThrow()
        .output.split(separator: "\n").map(String.init)
    }

    @Test(arguments: ["/usr", "/usr/local", "/opt/hf"])
    func everythingIsInItsPlace(prefix: String) throws {
      try withScratch { scratch in
        let place = scratch.file("root")
        try install(to: place, prefix: prefix)
        let files = try tree(place)
        let at = String(prefix.dropFirst())
        let zsh = prefix == "/usr" ? "vendor-completions" : "site-functions"
        let wanted = [
          "755 \(at)/bin/holdfast", "644 etc/holdfast/holdfast.toml",
          "644 \(at)/lib/systemd/system/holdfast.service", "644 \(at)/lib/systemd/system/holdfast.socket",
          "644 \(at)/lib/systemd/system/holdfast@.service", "644 \(at)/lib/sysusers.d/holdfast.conf",
          "644 \(at)/share/man/man1/holdfast.1", "644 \(at)/share/man/man5/holdfast.toml.5",
          "644 \(at)/share/man/man8/holdfast.8",
          "644 \(at)/share/bash-completion/completions/holdfast", "644 \(at)/share/zsh/\(zsh)/_holdfast",
          "644 \(at)/share/fish/vendor_completions.d/holdfast.fish",
          "644 \(at)/share/doc/holdfast/README.md", "644 \(at)/share/doc/holdfast/LICENSE",
          "644 \(at)/share/doc/holdfast/examples/holdfast.toml",
        ]
        for file in wanted { #expect(files.contains(file), "no \(file) in \(files)") }
        // Every manual page of the repository.
        let pages = try shell("ls '\(Self.root)'/man", seconds: 5).output.split(separator: "\n").count
        #expect(files.count { $0.contains("/share/man/") } == pages)
        #expect(
          try shell("find '\(place)' -type d ! -perm 755", seconds: 5).output == "",
          "directories that others cannot enter")
        // The units start the binary that was installed.
        let unit = text(of: "\(place)\(prefix)/lib/systemd/system/holdfast.service")
        #expect(unit.contains("ExecStart=\(prefix)/bin/holdfast serve --config /etc/holdfast/holdfast.toml"), "\(unit)")
        let version = try run("\(place)\(prefix)/bin/holdfast", ["version"], seconds: 10)
        let told = try run(Daemon.binary, ["--version"], seconds: 10)
        #expect(version.line == told.line)
        #expect(version.line.contains(#/^holdfast \d+\.\d+\.\d+$/#), "\(version.line)")

        try make("uninstall", place, prefix)
        #expect(try tree(place) == ["644 etc/holdfast/holdfast.toml"])
      }
    }

    @Test func aConfigurationIsNotOverwritten() throws {
      try withScratch { scratch in
        let place = scratch.file("root")
        try shell("mkdir -p '\(place)/etc/holdfast' && echo mine >'\(place)/etc/holdfast/holdfast.toml'", seconds: 5)
          .orThrow()
        try install(to: place, prefix: "/usr")
        #expect(text(of: "\(place)/etc/holdfast/holdfast.toml") == "mine\n")
      }
    }

    @Test func bashCompletesCommandsAndOptions() throws {
      try withScratch { scratch in
        let script = scratch.file("completions")
        try shell("'\(Daemon.binary)' completions bash >'\(script)' && bash -n '\(script)'", seconds: 10).orThrow()
        func completions(_ words: String...) throws -> [Substring] {
          let line = words.joined(separator: " ")
          // As bash does it when the tabulator is pressed.
          let body = """
            . '\(script)'
            function=$(complete -p holdfast | sed -E 's/.*-F ([^ ]+).*/\\1/')
            COMP_WORDS=(\(words.map { "'\($0)'" }.joined(separator: " "))) COMP_CWORD=\(words.count - 1)
            COMP_LINE='\(line)' COMP_POINT=\(line.count) COMP_TYPE=9
            $function holdfast '\(words.last!)' '\(words[words.count - 2])'
            printf '%s\\n' "${COMPREPLY[@]}"
            """
          return try run("/bin/bash", ["--norc", "-c", body], seconds: 20).orThrow().output.split(separator: "\n")
            .map { Substring($0.trimmingPrefix(" ")) }
        }
        let commands = try completions("holdfast", "")
        for each in ["serve", "check-config", "map", "completions", "version"] {
          #expect(commands.contains { $0.hasPrefix(each) }, "\(commands)")
        }
        let options = try completions("holdfast", "serve", "--exit")
        #expect(
          options.contains { $0.hasPrefix("--exit-when-idle") } && !options.contains { $0.hasPrefix("--run") },
          "\(options)")
        #expect(try completions("holdfast", "completions", "f").contains { $0.hasPrefix("fish") })
      }
    }

    @Test(needs("zsh")) func zshTakesItsCompletions() throws {
      let script =
        "autoload -Uz compinit && compinit -D -u; source <('\(Daemon.binary)' completions zsh); whence -w _holdfast"
      let result = try run("/usr/bin/zsh", ["-f", "-c", script], seconds: 20)
      #expect(result.output.contains("_holdfast: function"), "\(result.output)")
    }

    @Test(needs("fish")) func fishCompletesCommands() throws {
      let script = "'\(Daemon.binary)' completions fish | source; complete -C 'holdfast ser'"
      let result = try run("/usr/bin/fish", ["--no-config", "-c", script], seconds: 20)
      #expect(result.output.contains("serve"), "\(result.output)")
    }
  }
}
