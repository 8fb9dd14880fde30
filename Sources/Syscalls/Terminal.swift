// What standard output is connected to.

import CLinux
import Glibc

package enum Terminal {
  /// Standard output is a terminal.
  package static var isStandardOutput: Bool { isatty(STDOUT_FILENO) == 1 }

  /// Of the terminal behind standard output, in characters; nil when there is none, or it does not know.
  package static var size: (columns: Int, rows: Int)? {
    var columns: UInt32 = 0
    var rows: UInt32 = 0
    guard unsafe hf_terminal_size(STDOUT_FILENO, &columns, &rows) == 1 else { return nil }
    return (Int(columns), Int(rows))
  }
}
