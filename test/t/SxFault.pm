# SxFault.pm: tests that inject faults, at two sizes, and what they report.
#
# A test that uses this has a line "# faults: E1 E9" with the rows of the plan of tests
# that it covers.  Within "make test" it runs a slice; "make test-faults" sets SX_FULL and
# SX_FAULT_TABLE, and shows the rows that all of them wrote as one table.

package SxFault;

use strict;
use warnings;
use Exporter qw(import);
use Test::More;

our @EXPORT = qw(full scale fault_seed fault_row);

# Is this the whole plan, or the slice of it that "make test" runs?
sub full { return $ENV{SX_FULL} ? 1 : 0 }

# scale(SLICE, FULL): how often, by the size of the run.
sub scale
{
	my ($slice, $full) = @_;
	return full() ? $full : $slice;
}

# The seed of this run, SX_SEED or the clock's: printed, and set.
sub fault_seed
{
	my $seed = $ENV{SX_SEED} // time() % 1_000_000;
	diag "seed $seed";
	srand($seed);
	return $seed;
}

# fault_row(row => 'E1', what => …, tried => N, lost => N, duplicated => N, recovery => …,
# note => …): one line of the table.  What was not measured is left out.
sub fault_row
{
	my (%line) = @_;
	my @fields = map { $line{$_} // '' } qw(row what tried lost duplicated recovery note);
	s/[\t\n]/ /g foreach @fields;
	diag join(' | ', @fields);
	return if !$ENV{SX_FAULT_TABLE};
	open(my $table, '>>', $ENV{SX_FAULT_TABLE}) or die "cannot write $ENV{SX_FAULT_TABLE}: $!";
	print $table join("\t", @fields) . "\n";
	close $table;
	return;
}

1;
