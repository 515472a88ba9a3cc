# SxPoll.pm: questions to a server that is away now and then, because the test crashes it.

package SxPoll;

use strict;
use warnings;
use Exporter qw(import);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(poll_server answer comes_true becomes);

my $node;

# Which server the others ask.
sub poll_server { ($node) = @_; return }

# The answer; nothing where there was none.
sub answer
{
	my ($query) = @_;
	my ($rc, $out) = eval { $node->psql('postgres', $query, timeout => 20) };
	return defined $rc && $rc == 0 ? $out : undef;
}

# Waits until the query answers true; tells how things stand when that takes too long.
sub comes_true
{
	my ($query) = @_;
	my $until = time() + $PostgreSQL::Test::Utils::timeout_default;
	while (time() < $until)
	{
		return 1 if (answer("SELECT coalesce(($query), false)") // '') eq 't';
		usleep(20_000);
	}
	diag "still not: $query";
	diag answer('SELECT pipeline, state, pid, workers, status, batch_id, lane_of, lag, error_message FROM streamext.pipelines') // 'no server';
	diag answer('SELECT pipeline, partition, slot, position, end_position, lag, idle FROM streamext.partitions') // '';
	return 0;
}

# … as a test.
sub becomes
{
	my ($query, $name) = @_;
	ok(comes_true($query), $name);
	return;
}

1;
