# shellcheck shell=bash disable=SC2034 # bin/pipeline reads these
# How checkbox.io comes to production: read by bin/pipeline.

# Where it is pushed to, in git's words.
repository=git@10.0.0.3:/srv/git/checkbox.git
# A canary first, then everybody.
way=canary
suffix=tar.gz

# Each runs among the sources of the commit.
build_it() {
    npm --prefix server-side/site ci --no-audit --no-fund
}

test_it() {
    npm --prefix server-side/site test
}

# What is known to be wrong with what it is made of. Without this function nothing is analysed, and the pipeline says so.
analyse_it() {
    npm --prefix server-side/site audit --omit=dev --audit-level=critical
}

# Makes the artifact, by the path that it is given. Those of the same commit are the same.
package_it() {
    tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 public_html server-side | gzip --no-name >"$1"
}

# What users see, through the virtual address.
smoke_it() {
    curl --silent --show-error --fail --max-time 5 --output /dev/null \
        --header 'Host: checkbox.io' http://10.0.0.10/api/study/listing
}
