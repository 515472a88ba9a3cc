# SxQuiet.pm: does an idle pipeline write anything?
#
# Others write now and then: autovacuum, a checkpoint, what an earlier step has left to do.
# So the calmest of several windows counts: who writes all the time has none.

package SxQuiet;

use strict;
use warnings;
use Exporter qw(import);

our @EXPORT = qw(idle_wal);

# Bytes of WAL in the calmest of up to ten windows of three seconds.
sub idle_wal
{
	my ($node, $db) = @_;
	my $least;
	for (1 .. 10)
	{
		my $lsn = $node->safe_psql($db, 'CHECKPOINT; SELECT pg_current_wal_insert_lsn()');
		$node->safe_psql($db, 'SELECT count(*) FROM generate_series(1, 30), pg_sleep(0.1)');
		my $written = $node->safe_psql($db, "SELECT pg_current_wal_insert_lsn() - '$lsn'::pg_lsn");
		$least = $written if !defined $least || $written < $least;
		last if $least < 1000;
	}
	return $least;
}

1;
