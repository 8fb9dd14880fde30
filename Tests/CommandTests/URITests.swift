// What is printed for clients can be pasted.

import Syscalls
import Testing

@testable import holdfast

@Suite struct URIs {
  @Test func everyAddressHasItsURI() {
    #expect(exportURI("disk.img", at: .tcp(loopback4, port: 10809)) == "nbd://127.0.0.1:10809/disk.img")
    #expect(exportURI("disk.img", at: .tcp(loopback6, port: 7)) == "nbd://[::1]:7/disk.img")
    #expect(exportURI("a", at: .unix(path: "/run/x/nbd.sock")) == "nbd+unix:///a?socket=/run/x/nbd.sock")
  }

  @Test func unspecifiedAddressesAreReachedOverLoopback() {
    #expect(exportURI("a", at: .tcp(everywhere, port: 1)) == "nbd://127.0.0.1:1/a")
  }

  @Test func zonesOfAddressesAreEscaped() {
    let linkLocal = HostAddress(text: "fe80::1%eth0", isIPv6: true, isLoopback: false)
    #expect(exportURI("a", at: .tcp(linkLocal, port: 1)) == "nbd://[fe80::1%25eth0]:1/a")
  }

  @Test func namesAndPathsAreEscaped() {
    #expect(
      exportURI("a b?c#d%é/e", at: .unix(path: "/tmp/x y&z.sock"))
        == "nbd+unix:///a%20b%3Fc%23d%25%C3%A9/e?socket=/tmp/x%20y%26z.sock")
  }

  @Test func escapingIsUndoneByDecoding() {
    let text = "a b?c#d%é/e\u{7f}&=+"
    #expect(percentDecoded(percentEncoded(text)) == text)
    for broken in ["%", "%4", "%zz", "%+1", "%ff"] { #expect(percentDecoded(broken) == nil) }
  }

  @Test func startupReportNamesEveryAddress() {
    let report = StartupReport(
      rows: [.init(name: "disk.img", sizeBytes: 10 << 30, isReadOnly: true)],
      listeners: [.unix(path: "/run/x.sock"), .tcp(loopback4, port: 4711)])
    #expect(
      report.text == """
        holdfast \(holdfastVersion)  1 export
          disk.img  10.0 GiB, read-only
            nbd+unix:///disk.img?socket=/run/x.sock
            nbd://127.0.0.1:4711/disk.img
          try: nbdinfo 'nbd+unix:///disk.img?socket=/run/x.sock'
          stop: Ctrl-C

        """)
  }

  @Test func wordsForShellsAreQuoted() {
    #expect(shellQuoted("nbd://[::1]:1/a") == "'nbd://[::1]:1/a'")
    #expect(shellQuoted("nbd://127.0.0.1:1/a") == "nbd://127.0.0.1:1/a")
    #expect(shellQuoted("it's") == #"'it'\''s'"#)
  }
}
