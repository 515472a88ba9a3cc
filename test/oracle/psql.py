"""A session: psql behind a pipe, one answer per call."""
import os
import subprocess
import time

PSQL = os.environ.get("ORACLE_PSQL", "psql")


class Lost(Exception):
    """The connection is gone: the server crashed, or the session was ended."""


class Session:
    def __init__(self, database):
        self.database = database
        self.process = None

    def connect(self):
        for _ in range(60):     # the server may be starting again after a crash
            if subprocess.run([PSQL, "-XAtqc", "SELECT 1", "-d", self.database], capture_output=True).returncode == 0:
                break
            time.sleep(0.3)
        self.process = subprocess.Popen(
            [PSQL, "-XAtq", "-d", self.database], text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.run("SET client_min_messages = warning")
        self.run("SET statement_timeout = '60s'")
        self.run("SET timezone = 'UTC'")

    def close(self):
        if self.process is not None:
            process, self.process = self.process, None
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass
            process.wait(timeout=60)
            process.stdout.close()

    def run(self, sql):
        """Lines of the answer, and the error (sqlstate, text) or None."""
        if self.process is None:
            self.connect()
        try:
            self.process.stdin.write(sql + ";\n\\echo @@end :ERROR :SQLSTATE\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Lost("".join(self.process.stdout.readlines())) from None
        lines = []
        while True:
            line = self.process.stdout.readline()
            if line == "":
                self.process.wait()
                raise Lost("\n".join(lines))
            line = line.rstrip("\n")
            if line.startswith("@@end "):
                _, failed, state = line.split()
                return lines, ((state, "\n".join(lines)) if failed == "true" else None)
            lines.append(line)
            if "server closed the connection" in line or "connection to server was lost" in line:
                self.process.kill()
                raise Lost("\n".join(lines))

    def must(self, sql):
        lines, error = self.run(sql)
        if error:
            raise RuntimeError(f"{error[1]}\nin: {sql}")
        return lines
