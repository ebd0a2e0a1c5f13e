# shellcheck shell=bash disable=SC2034 # bin/pipeline reads these
# How iTrust comes to production: read by bin/pipeline.

repository=git@10.0.0.3:/srv/git/itrust.git
# One instance after the other.
way=rolling
suffix=war

# Its tests drop and refill the database that they find: what builds never has the one of production.
build_it() {
    mvn --batch-mode --file iTrust/pom.xml package -Dmaven.test.skip=true -Dexec.skip=true
}

test_it() {
    [ -f iTrust/target/iTrust-23.0.0.war ]
}

package_it() {
    cp iTrust/target/iTrust-23.0.0.war "$1"
}

smoke_it() {
    curl --silent --show-error --fail --max-time 5 --header 'Host: itrust.checkbox.io' \
        http://10.0.0.10/iTrust/login.jsp | grep --quiet '<title>iTrust - Login'
}
