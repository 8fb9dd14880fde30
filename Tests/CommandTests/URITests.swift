// What is printed for clients can be pasted.

import Syscalls
import Testing

@testable import holdfast

@Suite struct URIs {
  @Test func everyAddressHasItsURI() {
    #expect(exportURI("disk.img", at: loopback4(10809)) == "nbd://127.0.0.1:10809/disk.img")
    #expect(exportURI("disk.img", at: loopback6(7)) == "nbd://[::1]:7/disk.img")
    #expect(exportURI("a", at: .unix(path: "/run/x/nbd.sock")) == "nbd+unix:///a?socket=/run/x/nbd.sock")
  }

  @Test func unspecifiedAddressesAreReachedOverLoopback() {
    #expect(exportURI("a", at: ipv4(0, 0, 0, 0, port: 1)) == "nbd://127.0.0.1:1/a")
    let everywhere6 = SocketAddress.ipv6(bytes: [UInt8](repeating: 0, count: 16), port: 1, scope: 0)
    #expect(exportURI("a", at: everywhere6) == "nbd://[::1]:1/a")
  }

  @Test func zonesOfAddressesAreEscaped() {
    let linkLocal = SocketAddress.ipv6(bytes: [0xfe, 0x80] + [UInt8](repeating: 0, count: 13) + [1], port: 1, scope: 2)
    #expect(exportURI("a", at: linkLocal) == "nbd://[fe80::1%252]:1/a")
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
    var report = StartupReport(
      rows: [.init(name: "disk.img", sizeBytes: 10 << 30, isReadOnly: true)],
      listeners: [.unix(path: "/run/x.sock"), loopback4(4711)])
    #expect(
      report.text == """
        holdfast \(holdfastVersion)  1 export
          disk.img  10.0 GiB, read-only
            nbd+unix:///disk.img?socket=/run/x.sock
            nbd://127.0.0.1:4711/disk.img
          try: nbdinfo 'nbd+unix:///disk.img?socket=/run/x.sock'
          stop: Ctrl-C

        """)
    report.isByHand = false
    #expect(report.text.hasSuffix("  try: nbdinfo 'nbd+unix:///disk.img?socket=/run/x.sock'\n"))
  }

  @Test func wordsForShellsAreQuoted() {
    #expect(shellQuoted("nbd://[::1]:1/a") == "'nbd://[::1]:1/a'")
    #expect(shellQuoted("nbd://127.0.0.1:1/a") == "nbd://127.0.0.1:1/a")
    #expect(shellQuoted("it's") == #"'it'\''s'"#)
  }
}
